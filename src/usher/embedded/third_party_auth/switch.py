"""Settings of python-social-auth that don't depend on a provider, applied at start."""

from typing import Any

_HERE = "usher.embedded.third_party_auth.pipeline"
_SOCIAL = "social_core.pipeline"

PIPELINE = [
    f"{_HERE}.parse_query_params",
    f"{_SOCIAL}.social_auth.social_details",
    f"{_SOCIAL}.social_auth.social_uid",
    f"{_SOCIAL}.social_auth.auth_allowed",
    f"{_SOCIAL}.social_auth.social_user",
    f"{_HERE}.associate_by_email_if_oauth",
    f"{_HERE}.get_username",
    f"{_HERE}.set_pipeline_timeout",
    f"{_HERE}.ensure_user_information",
    f"{_SOCIAL}.user.create_user",
    f"{_SOCIAL}.social_auth.associate_user",
    f"{_SOCIAL}.social_auth.load_extra_data",
    f"{_SOCIAL}.user.user_details",
    f"{_HERE}.user_details_force_sync",
    f"{_HERE}.set_id_verification_status",
    f"{_HERE}.set_logged_in_cookies",
    f"{_HERE}.ensure_redirect_url_is_safe",
]


def apply_settings(settings: Any) -> None:
    settings.FIELDS_STORED_IN_SESSION = ["auth_entry", "next"]
    settings.SOCIAL_AUTH_FIELDS_STORED_IN_SESSION = ["auth_entry", "next"]
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "usher.embedded.third_party_auth.middleware.ExceptionMiddleware",
    ]
    settings.SOCIAL_AUTH_LOGIN_ERROR_URL = "/"
    settings.SOCIAL_AUTH_LOGIN_REDIRECT_URL = "/dashboard"
    settings.SOCIAL_AUTH_SANITIZE_REDIRECTS = False
    settings.SOCIAL_AUTH_CLEAN_USERNAMES = not settings.FEATURES.get("ENABLE_UNICODE_USERNAME")
    settings.SOCIAL_AUTH_CLEAN_USERNAME_FUNCTION = f"{_HERE}.clean_username"
    settings.SOCIAL_AUTH_PIPELINE = list(PIPELINE)
    settings.SOCIAL_AUTH_STRATEGY = (
        "usher.embedded.third_party_auth.strategy.ConfigurationModelStrategy"
    )
    settings.SOCIAL_AUTH_PROTECTED_USER_FIELDS = ["email"]
    settings.SOCIAL_AUTH_RAISE_EXCEPTIONS = False
    settings.SOCIAL_AUTH_INACTIVE_USER_LOGIN = True
    settings.SOCIAL_AUTH_INACTIVE_USER_URL = "/auth/inactive"
    # Later releases of python-social-auth find active users only. The platform's release finds all.
    settings.SOCIAL_AUTH_ACTIVE_USERS_FILTER = {}
    settings.SOCIAL_AUTH_UUID_LENGTH = 10
