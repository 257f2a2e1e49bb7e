"""Settings of a stock Django project with django-oauth-toolkit's defaults, hasher and views."""

import os
from pathlib import Path

from campus.databases import database

SECRET_KEY = "reference-of-the-benchmark"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
    "benchmarks.reference.store",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "benchmarks.reference.urls"
WSGI_APPLICATION = "benchmarks.reference.wsgi.application"
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
]
DATABASES = {"default": database(os.environ["DATABASE_URL"], Path())}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LOGIN_URL = "/login/"
SESSION_COOKIE_NAME = "reference_session"
OAUTH2_PROVIDER = {
    "SCOPES": {"user:read": "Read your username, full name and e-mail address"},
    "DEFAULT_SCOPES": ["user:read"],
    # The LMS's backend sends no code challenge.
    "PKCE_REQUIRED": False,
    "OAUTH2_VALIDATOR_CLASS": "benchmarks.reference.validator.Validator",
}
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"

LMS_URL = os.environ.get("OPENEDX_API_BASE_URL", "")
SITE_BASE_URL = os.environ.get("SITE_BASE_URL", "")
SERVICE_TOKEN = os.environ.get("OPENEDX_SERVICE_WORKER_API_TOKEN", "")
LMS_CLIENT_ID = os.environ.get("OPENEDX_API_CLIENT_ID", "")
LMS_CLIENT_SECRET = os.environ.get("OPENEDX_API_CLIENT_SECRET", "")
