"""The ``manage.py`` commands of an application; their shared code is in
``usher.application.management``."""
