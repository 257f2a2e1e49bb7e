"""``usher dev``: an embedded LMS for any Django project that has Usher's settings."""
