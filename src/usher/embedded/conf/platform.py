"""Settings of ``lms.envs.common`` for the parts of the platform that the embedded LMS has.

Names and defaults are the platform's (June 2025), so that ``print_setting`` and code that reads
settings find the same values.
"""

from typing import Any

FEATURES: dict[str, Any] = {
    "ALLOW_PUBLIC_ACCOUNT_CREATION": True,
    "ALLOW_EMAIL_ADDRESS_CHANGE": True,
    "ENABLE_AUTHN_MICROFRONTEND": False,
    "ENABLE_COMBINED_LOGIN_REGISTRATION": True,
    "ENABLE_OAUTH2_PROVIDER": True,
    "ENABLE_THIRD_PARTY_AUTH": True,
    "ENABLE_UNICODE_USERNAME": False,
    "SHOW_REGISTRATION_LINKS": True,
    "SKIP_EMAIL_VALIDATION": False,
    "COURSES_ARE_BROWSABLE": True,
    "ENABLE_BULK_USER_RETIREMENT": False,
    "ENABLE_LTI_PROVIDER": False,
}

PLATFORM_NAME = "édX"
#: A separate setting in every release, never a key of FEATURES.
ENABLE_REQUIRE_THIRD_PARTY_AUTH = False
LOGIN_URL = "/login"
LOGIN_REDIRECT_WHITELIST: list[str] = []
IDA_LOGOUT_URI_LIST: list[str] = []
SOCIAL_AUTH_OAUTH_SECRETS: dict[str, str] = {}
SOCIAL_AUTH_PIPELINE_TIMEOUT = 600
AUTHN_MICROFRONTEND_URL = ""
LEARNER_HOME_MICROFRONTEND_URL = ""
AUTHN_MICROFRONTEND_DOMAIN = ""
LEARNING_MICROFRONTEND_URL = ""
TPA_AUTOMATIC_LOGOUT_ENABLED = False

REGISTRATION_EXTRA_FIELDS = {
    "confirm_email": "hidden",
    "level_of_education": "optional",
    "gender": "optional",
    "year_of_birth": "optional",
    "mailing_address": "optional",
    "goals": "optional",
    "honor_code": "required",
    "terms_of_service": "hidden",
    "city": "hidden",
    "country": "hidden",
}
REGISTRATION_EMAIL_PATTERNS_ALLOWED: list[str] | None = None
REGISTRATION_RATELIMIT = "60/7d"
REGISTRATION_VALIDATION_RATELIMIT = "30/7d"
LOGIN_AND_REGISTER_FORM_RATELIMIT = "100/5m"
LOGISTRATION_RATELIMIT_RATE = "100/5m"
RATELIMIT_ENABLE = True
RATELIMIT_RATE = "120/m"

USERNAME_REGEX_PARTIAL = r"[\w .@_+-]+"
USERNAME_PATTERN = rf"(?P<username>{USERNAME_REGEX_PARTIAL})"
COURSE_KEY_PATTERN = r"(?P<course_key_string>[^/+]+(/|\+)[^/+]+(/|\+)[^/?]+)"
COURSE_ID_PATTERN = COURSE_KEY_PATTERN.replace("course_key_string", "course_id")

EDXMKTG_LOGGED_IN_COOKIE_NAME = "edxloggedin"
EDXMKTG_USER_INFO_COOKIE_NAME = "edx-user-info"
EDXMKTG_USER_INFO_COOKIE_VERSION = 1
SHARED_COOKIE_DOMAIN: str | None = None
LANGUAGE_COOKIE_NAME = "openedx-language-preference"
ENFORCE_SESSION_EMAIL_MATCH = False

COURSE_MODE_DEFAULTS: dict[str, Any] = {
    "android_sku": None,
    "bulk_sku": None,
    "currency": "usd",
    "description": None,
    "expiration_datetime": None,
    "ios_sku": None,
    "min_price": 0,
    "name": "Audit",
    "sku": None,
    "slug": "audit",
    "suggested_prices": "",
}

#: Rates of endpoints with their own throttles, by name and by kind of user.
API_THROTTLE_RATES = {
    "course_list": {"user": "20/minute", "staff": "40/minute"},
    "enrollment": {"user": "40/minute", "staff": "120/minute"},
}

#: Username of the service account that may retire accounts without being a superuser or having the
#: permission.
RETIREMENT_SERVICE_WORKER_USERNAME = "RETIREMENT_SERVICE_USER"
RETIREMENT_STATES = [
    "PENDING",
    "LOCKING_ACCOUNT",
    "LOCKING_COMPLETE",
    "RETIRING_FORUMS",
    "FORUMS_COMPLETE",
    "RETIRING_EMAIL_LISTS",
    "EMAIL_LISTS_COMPLETE",
    "RETIRING_ENROLLMENTS",
    "ENROLLMENTS_COMPLETE",
    "RETIRING_NOTES",
    "NOTES_COMPLETE",
    "RETIRING_LMS",
    "LMS_COMPLETE",
    "ERRORED",
    "ABORTED",
    "COMPLETE",
]

PROFILE_IMAGE_SIZES_MAP = {"full": 500, "large": 120, "medium": 50, "small": 30}

_PUBLIC = ["account_privacy", "profile_image", "username"]
_BULK = [
    *_PUBLIC,
    "bio",
    "course_certificates",
    "country",
    "date_joined",
    "language_proficiencies",
    "level_of_education",
    "social_links",
    "time_zone",
]
ACCOUNT_VISIBILITY_CONFIGURATION: dict[str, Any] = {
    "default_visibility": "all_users",
    "public_fields": _PUBLIC,
    "bulk_shareable_fields": _BULK,
    "custom_shareable_fields": [*_BULK, "name"],
    "admin_fields": [
        *_BULK,
        "name",
        "email",
        "id",
        "verified_name",
        "extended_profile",
        "gender",
        "state",
        "goals",
        "is_active",
        "last_login",
        "mailing_address",
        "requires_parental_consent",
        "secondary_email",
        "secondary_email_enabled",
        "year_of_birth",
        "phone_number",
        "activation_key",
        "pending_name_change",
    ],
}
PARENTAL_CONSENT_AGE_LIMIT = 13

OAUTH2_DEFAULT_SCOPES = {
    "read": "Read access",
    "write": "Write access",
    "email": "Know your email address",
    "profile": "Know your name and username",
}
OAUTH2_PROVIDER = {
    "OAUTH2_VALIDATOR_CLASS": "usher.embedded.oauth_dispatch.validators.LmsOAuth2Validator",
    "SCOPES_BACKEND_CLASS": "usher.embedded.oauth_dispatch.scopes.ApplicationModelScopes",
    "SCOPES": {
        **OAUTH2_DEFAULT_SCOPES,
        "certificates:read": "Retrieve your course certificates",
        "grades:read": "Retrieve your grades for your enrolled courses",
        "tpa:read": "Retrieve your third-party authentication username mapping",
        "user_id": "Know your user identifier",
    },
    "DEFAULT_SCOPES": OAUTH2_DEFAULT_SCOPES,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 7776000,
    "REQUEST_APPROVAL_PROMPT": "auto_even_if_expired",
    "ERROR_RESPONSE_WITH_SCOPES": True,
    # The LMS's version of django-oauth-toolkit does not require PKCE.
    "PKCE_REQUIRED": False,
    # The LMS's version stores client secrets unhashed. The version installed here may hash them: a
    # fast hash is enough for a random secret of 128 bits or more.
    "CLIENT_SECRET_HASHER": "random_secret",
}
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL = "oauth2_provider.AccessToken"  # noqa: S105 - a model
OAUTH2_PROVIDER_REFRESH_TOKEN_MODEL = "oauth2_provider.RefreshToken"  # noqa: S105 - a model
OAUTH2_PROVIDER_GRANT_MODEL = "oauth2_provider.Grant"
OAUTH2_PROVIDER_ID_TOKEN_MODEL = "oauth2_provider.IDToken"  # noqa: S105 - a model
