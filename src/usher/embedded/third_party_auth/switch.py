"""Settings of python-social-auth that don't depend on a provider, applied at start."""

from typing import Any

_PLATFORM = "usher.embedded.third_party_auth.pipeline"
_LIBRARY = "social_core.pipeline"

PIPELINE = [
    f"{_PLATFORM}.parse_query_params",
    f"{_LIBRARY}.social_auth.social_details",
    f"{_LIBRARY}.social_auth.social_uid",
    f"{_LIBRARY}.social_auth.auth_allowed",
    f"{_LIBRARY}.social_auth.social_user",
    f"{_PLATFORM}.associate_by_email_if_oauth",
    f"{_PLATFORM}.get_username",
    f"{_PLATFORM}.set_pipeline_timeout",
    f"{_PLATFORM}.ensure_user_information",
    f"{_LIBRARY}.user.create_user",
    f"{_LIBRARY}.social_auth.associate_user",
    f"{_LIBRARY}.social_auth.load_extra_data",
    f"{_LIBRARY}.user.user_details",
    f"{_PLATFORM}.user_details_force_sync",
    f"{_PLATFORM}.set_id_verification_status",
    f"{_PLATFORM}.set_logged_in_cookies",
    f"{_PLATFORM}.ensure_redirect_url_is_safe",
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
    # The step ``ensure_redirect_url_is_safe`` checks ``next`` instead.
    settings.SOCIAL_AUTH_SANITIZE_REDIRECTS = False
    settings.SOCIAL_AUTH_CLEAN_USERNAMES = not settings.FEATURES.get("ENABLE_UNICODE_USERNAME")
    settings.SOCIAL_AUTH_CLEAN_USERNAME_FUNCTION = f"{_PLATFORM}.clean_username"
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
