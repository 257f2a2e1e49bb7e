"""WSGI entry point: ``granian --interface wsgi campus.wsgi:application``."""

import os

from django.core.wsgi import get_wsgi_application

from campus import start

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "campus.settings")

application = get_wsgi_application()
start.check_settings()
