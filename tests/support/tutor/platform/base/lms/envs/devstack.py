# ruff: noqa: F403 - as the platform writes its settings
"""As the platform's devstack settings: production's, made easier for development, then plugins."""

from edx_django_utils.plugins import add_plugins

from .production import *

DEBUG = True
LMS_BASE = "localhost:18000"
LMS_ROOT_URL = f"http://{LMS_BASE}"
# Replaces what production has collected.
IDA_LOGOUT_URI_LIST = ["http://localhost:18010/logout/"]

add_plugins(__name__, "lms.djangoapp", "devstack")
