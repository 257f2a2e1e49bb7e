"""``usher dev``: an embedded LMS beside any Django project that has Usher's settings."""
