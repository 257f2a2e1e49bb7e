"""The application's side: what it is, its manage.py, its OAuth2 record, its ``.env``."""
