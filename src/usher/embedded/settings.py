"""Django settings of the embedded LMS.

The order is edx-platform's: common settings, the plugins' common settings, the settings in
``lms.env.yml``, the third-party backends, the plugins' production settings.
"""

import json
import sys
from typing import Any

from usher.embedded.conf import files, jwt, plugins
from usher.embedded.conf.database import database
from usher.embedded.conf.platform import *  # noqa: F403 - the platform's names are settings here

LMS_HOME = files.home()
_FOLDER_SETTINGS = files.read_settings(LMS_HOME)
_SECRETS = files.read_secrets(LMS_HOME)
#: The settings in ``lms.env.yml``, under the name by which plugins of the platform read them.
ENV_TOKENS = _FOLDER_SETTINGS
EMBEDDED_PLUGINS: list[str] = _FOLDER_SETTINGS.get("EMBEDDED_PLUGINS", [])

SECRET_KEY = _SECRETS["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["*"]
#: As in Tutor's Open edX; site 1 is Django's ``example.com``.
SITE_ID = 2
#: False makes this LMS behave like the recorded one, which had no course content. Without content
#: an LMS can't open courses, grade or bulk-enroll.
EMBEDDED_RUNS_HAVE_CONTENT = True
ROOT_URLCONF = "usher.embedded.urls"
WSGI_APPLICATION = "usher.embedded.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
USE_I18N = True
APPEND_SLASH = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USHER_PLATFORM = "usher.embedded.platform"

INSTALLED_APPS = [
    "usher.embedded.core.apps.CoreConfig",
    # Before the libraries whose templates this app replaces.
    "usher.embedded.pages.apps.PagesConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "oauth2_provider",
    # Before social_django, which reads the strategy's name as soon as it is ready.
    "usher.embedded.third_party_auth.apps.ThirdPartyAuthConfig",
    "social_django",
    "rest_framework",
    "config_models",
    "django_countries",
    "edx_rest_framework_extensions",
    "openedx_events",
    "waffle",
    "usher.embedded.course_overviews.apps.CourseOverviewsConfig",
    "usher.embedded.course_modes.apps.CourseModesConfig",
    "usher.embedded.student.apps.StudentConfig",
    "usher.embedded.user_api.apps.UserApiConfig",
    "usher.embedded.oauth_dispatch.apps.OAuthDispatchConfig",
    "usher.embedded.verify_student.apps.VerifyStudentConfig",
    "usher.embedded.grades.apps.GradesConfig",
    "usher.embedded.certificates.apps.CertificatesConfig",
    "usher.embedded.bulk_email.apps.BulkEmailConfig",
    "usher.embedded.lti_provider.apps.LtiProviderConfig",
    "usher.embedded.home.apps.HomeConfig",
    *(
        ["usher.embedded.platform_load.apps.PlatformLoadConfig"]
        if _FOLDER_SETTINGS.get("PLATFORM_COSTS")
        else []
    ),
    *plugins.installed_apps(EMBEDDED_PLUGINS),
]

MIDDLEWARE = [
    "usher.embedded.core.middleware.XForwardedForMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "crum.CurrentRequestUserMiddleware",
    "edx_django_utils.cache.middleware.RequestCacheMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sites.middleware.CurrentSiteMiddleware",
    "edx_rest_framework_extensions.auth.jwt.middleware.JwtAuthCookieMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "usher.embedded.core.middleware.EmailInSessionMiddleware",
    "usher.embedded.core.middleware.UserStandingMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "usher.embedded.core.middleware.LanguagePreferenceMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "waffle.middleware.WaffleMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "usher.embedded.pages.context.platform",
            ]
        },
    }
]
DEFAULT_TEMPLATE_ENGINE = TEMPLATES[0]

AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "usher.embedded.core.hashers.RandomSecretHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "usher.embedded.core.passwords.MinimumLengthValidator",
        "OPTIONS": {"min_length": 8},
    },
    {
        "NAME": "usher.embedded.core.passwords.MaximumLengthValidator",
        "OPTIONS": {"max_length": 75},
    },
]

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "sessionid"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
#: For one server process. Several processes need a shared cache, so that they count rate limits
#: together.
CACHES: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
DEFAULT_FROM_EMAIL = "registration@example.com"
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
# Finds files when they are requested; scanning all files at the start takes a tenth of a second.
WHITENOISE_AUTOREFRESH = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "edx_rest_framework_extensions.auth.jwt.authentication.JwtAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "edx_rest_framework_extensions.paginators.DefaultPagination",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "PAGE_SIZE": 10,
    "EXCEPTION_HANDLER": "usher.embedded.core.errors.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_THROTTLE_RATES": {"user": "60/minute", "service_user": "800/minute"},
}
EDX_DRF_EXTENSIONS = {
    "JWT_PAYLOAD_USER_ATTRIBUTE_MAPPING": {},
    "VERIFY_LMS_USER_ID_PROPERTY_NAME": "id",
}
#: No performance data is reported.
OPENEDX_TELEMETRY: list[str] = []
#: django_ratelimit requires a cache that all processes share. The default cache here is not shared,
#: because one process serves the LMS.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001"]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "usher.embedded.logs.LineFormatter",
            "format": "{levelname} {name}: {message}",
            "style": "{",
        }
    },
    "filters": {"without-doctor-warnings": {"()": "usher.embedded.logs.WithoutDoctorWarnings"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["without-doctor-warnings"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}

_MODULE = sys.modules[__name__]
plugins.apply_settings(EMBEDDED_PLUGINS, _MODULE, "common")

FEATURES = {**FEATURES, **_FOLDER_SETTINGS.get("FEATURES", {})}  # noqa: F405
REGISTRATION_EXTRA_FIELDS = dict(
    _FOLDER_SETTINGS.get("REGISTRATION_EXTRA_FIELDS", REGISTRATION_EXTRA_FIELDS)  # noqa: F405
)
# All other settings in ``lms.env.yml`` replace the values above. DATABASES is set below.
vars().update(
    {
        name: value
        for name, value in _FOLDER_SETTINGS.items()
        if name.isupper() and name not in {"FEATURES", "REGISTRATION_EXTRA_FIELDS", "DATABASES"}
    }
)
LMS_BASE = _FOLDER_SETTINGS.get("LMS_BASE", "localhost:8000")
LMS_ROOT_URL = _FOLDER_SETTINGS.get("LMS_ROOT_URL", f"http://{LMS_BASE}")
DATABASES = {"default": database(LMS_HOME, _FOLDER_SETTINGS.get("DATABASE_URL", ""))}
DATABASES["default"]["ATOMIC_REQUESTS"] = bool(_FOLDER_SETTINGS.get("ATOMIC_REQUESTS"))
JWT_AUTH = jwt.jwt_auth(SECRET_KEY, json.dumps(_SECRETS["JWT_PRIVATE_SIGNING_JWK"]), LMS_ROOT_URL)

if FEATURES.get("ENABLE_THIRD_PARTY_AUTH"):
    AUTHENTICATION_BACKENDS = [
        *_FOLDER_SETTINGS.get("THIRD_PARTY_AUTH_BACKENDS", []),
        *AUTHENTICATION_BACKENDS,
    ]

plugins.apply_settings(EMBEDDED_PLUGINS, _MODULE, "production")
