"""The embedded LMS for a WSGI server; USHER_LMS_HOME names its folder."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "usher.embedded.settings")
application = get_wsgi_application()
