"""The part of the platform's common settings that its other settings and Tutor's settings use, with
the platform's defaults."""

import os

from edx_django_utils.plugins import add_plugins

#: Defaults of the features on which the connection depends or that Tutor sets. The platform allows
#: public accounts and hides the country. Here these two defaults are reversed, so that tests show
#: that Usher sets both features.
DEFAULT_FEATURES = {
    "ALLOW_PUBLIC_ACCOUNT_CREATION": False,
    "ENABLE_AUTHN_MICROFRONTEND": os.environ.get("EDXAPP_ENABLE_AUTHN_MFE", False),
    "ENABLE_CORS_HEADERS": False,
    "ENABLE_OAUTH2_PROVIDER": False,
    "ENABLE_THIRD_PARTY_AUTH": False,
    "SKIP_EMAIL_VALIDATION": False,
}

try:
    from openedx.core.lib.features_setting_proxy import FeaturesProxy
except ImportError:
    FEATURES = dict(DEFAULT_FEATURES)
else:
    globals().update(DEFAULT_FEATURES)
    FEATURES = FeaturesProxy(globals())

AUTHENTICATION_BACKENDS = [
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.AllowAllUsersModelBackend",
    "bridgekeeper.backends.RulePermissionBackend",
]
CACHES = {}
CSRF_TRUSTED_ORIGINS = []
DATABASE_ROUTERS = [
    "openedx.core.lib.django_courseware_routers.StudentModuleHistoryExtendedRouter",
]
IDA_LOGOUT_URI_LIST = []
INSTALLED_APPS = ["lms.djangoapps.coursewarehistoryextended"]
JWT_AUTH = {}
LMS_ROOT_URL = None
LOGGING = {"handlers": {}, "loggers": {"tracking": {"handlers": []}}}
LOGIN_REDIRECT_WHITELIST = []
LOG_DIR = ""
MIDDLEWARE = []
MODULESTORE = {"default": {"OPTIONS": {"stores": [{"OPTIONS": {}}]}}}
PROFILE_IMAGE_BACKEND = {"options": {}}
REGISTRATION_EXTRA_FIELDS = {
    "confirm_email": "hidden",
    "level_of_education": "optional",
    "honor_code": "required",
    "terms_of_service": "hidden",
    "city": "hidden",
    "country": "required",
    "gender": "optional",
    "year_of_birth": "optional",
    "mailing_address": "optional",
    "goals": "optional",
}
REGISTRATION_RATELIMIT = "60/7d"
REGISTRATION_VALIDATION_RATELIMIT = "30/7d"
SOCIAL_AUTH_OAUTH_SECRETS = {}
STATIC_ROOT = "/openedx/staticfiles"
SYSTEM_WIDE_ROLE_CLASSES = ["enterprise.SystemWideEnterpriseUserRoleAssignment"]
VIDEO_IMAGE_SETTINGS = {"STORAGE_KWARGS": {}}
VIDEO_TRANSCRIPTS_SETTINGS = {"STORAGE_KWARGS": {}}

add_plugins(__name__, "lms.djangoapp", "common")
