"""All settings from the environment, as docker compose passes them."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = os.environ.get("DEBUG", "False") == "True"
SECRET_KEY = os.environ.get("SECRET_KEY", "local_unsafe_key")
ALLOWED_HOSTS = ["*"]
SITE_NAME = os.environ.get("SHOP_NAME", "Shop")
SITE_BASE_URL = os.environ.get("SHOP_BASE_URL", "http://shop.odl.local:8099")
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
    "shop.courses",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LOGIN_URL = "/signin/"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_NAME = "shop_session"

OAUTH2_PROVIDER = {
    "SCOPES": {"read": "Read", "write": "Write", "user:read": "Your name and e-mail address"},
    "DEFAULT_SCOPES": ["user:read"],
    "PKCE_REQUIRED": os.environ.get("SHOP_PKCE_REQUIRED", "False") == "True",
}

# Checks that fail with the messages of mitol-django-common: first for an empty number, then for all
# missing settings.
if os.environ.get("SHOP_COMPANY_ID") == "":
    raise ImproperlyConfigured("Expected value in SHOP_COMPANY_ID= to be an int")
REQUIRED = [name for name in os.environ.get("SHOP_REQUIRED", "").split() if name]
if missing := [name for name in REQUIRED if not os.environ.get(name)]:
    raise ImproperlyConfigured(
        f"The following settings are missing: {', '.join(missing)}. You need to add these "
        "environment variables in .env file."
    )

# The integration with Open edX. MITx Online and MIT xPro have settings of the same names.
OPENEDX_OAUTH_PROVIDER = os.environ.get("OPENEDX_OAUTH_PROVIDER", "mitxpro-oauth2")
OPENEDX_SOCIAL_LOGIN_PATH = os.environ.get(
    "OPENEDX_SOCIAL_LOGIN_PATH", "/auth/login/mitxpro-oauth2/?auth_entry=login"
)
OPENEDX_OAUTH_APP_NAME = os.environ.get("OPENEDX_OAUTH_APP_NAME", "edx-oauth-app")
OPENEDX_API_BASE_URL = os.environ.get("OPENEDX_API_BASE_URL", "http://edx.odl.local:18000")
OPENEDX_BASE_REDIRECT_URL = os.environ.get("OPENEDX_BASE_REDIRECT_URL", OPENEDX_API_BASE_URL)
OPENEDX_API_CLIENT_ID = os.environ.get("OPENEDX_API_CLIENT_ID", "")
OPENEDX_API_CLIENT_SECRET = os.environ.get("OPENEDX_API_CLIENT_SECRET", "")
OPENEDX_SERVICE_WORKER_USERNAME = os.environ.get("OPENEDX_SERVICE_WORKER_USERNAME", "")
OPENEDX_SERVICE_WORKER_API_TOKEN = os.environ.get("OPENEDX_SERVICE_WORKER_API_TOKEN", "")
EDX_API_CLIENT_TIMEOUT = int(os.environ.get("EDX_API_CLIENT_TIMEOUT", "60"))
LOGOUT_REDIRECT_URL = os.environ.get("LOGOUT_REDIRECT_URL") or "/"
