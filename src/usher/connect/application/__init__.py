"""The application in a connection: detection, its manage.py, its OAuth2 record, its ``.env``."""
