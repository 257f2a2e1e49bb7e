# ruff: noqa: F403, F405 - as the platform writes its settings
"""Like the platform's devstack settings: production settings, changes for development, plugins."""

from edx_django_utils.plugins import add_plugins

from .production import *

DEBUG = True
LMS_BASE = "localhost:18000"
LMS_ROOT_URL = f"http://{LMS_BASE}"
FEATURES["ENABLE_OAUTH2_PROVIDER"] = True
if FEATURES.get("ENABLE_THIRD_PARTY_AUTH"):
    dummy = "common.djangoapps.third_party_auth.dummy.DummyBackend"
    AUTHENTICATION_BACKENDS = [dummy, *AUTHENTICATION_BACKENDS]
LOGIN_REDIRECT_WHITELIST.extend(["localhost:18000", "localhost:18010"])
# Replaces production's list, as in the platform.
IDA_LOGOUT_URI_LIST = [
    "http://localhost:18130/logout/",
    "http://localhost:18150/logout/",
    "http://localhost:18010/logout/",
]

add_plugins(__name__, "lms.djangoapp", "devstack")
