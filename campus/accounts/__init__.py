"""People: the user model, sign-up, profile."""
