"""``manage.py check``: names all that is missing or malformed, each with its fix."""
