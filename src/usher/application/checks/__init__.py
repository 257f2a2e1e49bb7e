"""``manage.py check``: each setting that is missing or malformed, with its fix."""
