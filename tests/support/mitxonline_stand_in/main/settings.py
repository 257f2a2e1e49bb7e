"""Settings with MITx Online's names, from the environment. The stand-in does not start without the
required settings."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def required(name):
    """The environment variable. Raises ImproperlyConfigured if it is missing or empty."""
    if not os.environ.get(name):
        raise ImproperlyConfigured(f"{name} is required")
    return os.environ[name]


def database(url):
    """The entry of ``DATABASES`` for this address of an SQLite or PostgreSQL database."""
    if url.startswith("sqlite:///"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url[len("sqlite:///") :],
            "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
        # Without a host name, the query names the folder of the server's socket.
        "HOST": parts.hostname or dict(p.split("=", 1) for p in parts.query.split("&")).get("host"),
        "PORT": parts.port,
    }


SECRET_KEY = required("SECRET_KEY")
SITE_BASE_URL = required("MITX_ONLINE_BASE_URL")
ADMIN_EMAIL = required("MITX_ONLINE_ADMIN_EMAIL")
MAILGUN_SENDER_DOMAIN = required("MAILGUN_SENDER_DOMAIN")
MAILGUN_KEY = required("MAILGUN_KEY")
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DATABASES = {
    "default": database(os.environ.get("DATABASE_URL", f"sqlite:///{BASE_DIR}/db.sqlite3"))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
    "main",
    "users",
    "openedx",
    "courses",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "users.gateway.GatewayMiddleware",
]
ROOT_URLCONF = "main.urls"
AUTH_USER_MODEL = "users.User"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SESSION_COOKIE_NAME = "mitxonline_sessionid"
AUTHENTICATION_BACKENDS = (
    "users.gateway.GatewayBackend",
    "django.contrib.auth.backends.ModelBackend",
)
# People sign in at the API gateway only; this page redirects there.
LOGIN_URL = "gateway-login"
LOGOUT_REDIRECT_URL = os.environ.get("LOGOUT_REDIRECT_URL", "/")
OAUTH2_PROVIDER = {
    "SCOPES": {"user:read": "read your profile"},
    "DEFAULT_SCOPES": ["user:read"],
    "PKCE_REQUIRED": False,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
    "OAUTH2_VALIDATOR_CLASS": os.environ.get(
        "SHAPE_VALIDATOR", "oauth2_provider.oauth2_validators.OAuth2Validator"
    ),
}
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

OPENEDX_OAUTH_PROVIDER = os.environ.get("OPENEDX_OAUTH_PROVIDER", "mitxpro-oauth2")
OPENEDX_SOCIAL_LOGIN_PATH = os.environ.get(
    "OPENEDX_SOCIAL_LOGIN_PATH", "/auth/login/mitxpro-oauth2/?auth_entry=login"
)
OPENEDX_OAUTH_APP_NAME = os.environ.get("OPENEDX_OAUTH_APP_NAME", "edx-oauth-app")
OPENEDX_API_BASE_URL = os.environ.get("OPENEDX_API_BASE_URL", "http://edx.odl.local:18000")
OPENEDX_BASE_REDIRECT_URL = os.environ.get("OPENEDX_BASE_REDIRECT_URL", OPENEDX_API_BASE_URL)
OPENEDX_TOKEN_EXPIRES_HOURS = int(os.environ.get("OPENEDX_TOKEN_EXPIRES_HOURS", "1000"))
OPENEDX_API_CLIENT_ID = required("OPENEDX_API_CLIENT_ID")
OPENEDX_API_CLIENT_SECRET = required("OPENEDX_API_CLIENT_SECRET")
OPENEDX_SERVICE_WORKER_API_TOKEN = os.environ.get("OPENEDX_SERVICE_WORKER_API_TOKEN")
OPENEDX_SERVICE_WORKER_USERNAME = os.environ.get("OPENEDX_SERVICE_WORKER_USERNAME")
OPENEDX_STUDIO_API_BASE_URL = os.environ.get(
    "OPENEDX_STUDIO_API_BASE_URL", "http://studio.edx.odl.local:18001"
)
OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID = os.environ.get(
    "OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID", OPENEDX_API_CLIENT_ID
)
OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET = os.environ.get(
    "OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET", OPENEDX_API_CLIENT_SECRET
)
OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID = os.environ.get(
    "OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID"
)
OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET = os.environ.get(
    "OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET"
)
EDX_API_CLIENT_TIMEOUT = int(os.environ.get("EDX_API_CLIENT_TIMEOUT", "60"))
MITX_ONLINE_REGISTRATION_ACCESS_TOKEN = os.environ.get("MITX_ONLINE_REGISTRATION_ACCESS_TOKEN")

# Some installations print text at the start. Protocols on standard output must tolerate such text.
if os.environ.get("NOISE_ON_STDOUT"):
    print("starting up ... ", end="")
    print('{"id": 0, "ok": "not an answer"}')
