"""The plugin's settings, applied to objects like the settings modules of each release."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from usher.lms.apps import LMS, UsherLmsConfig
from usher.lms.settings import common, devstack, production

USHER_SETTINGS = {
    "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2", "xpro-oauth2": "ol-oauth2"},
    "USHER_LOGOUT_URIS": ["http://app.example:8013/logout/", "http://xpro.example:8053/logout/"],
}
MITXPRO = "social_auth_mitxpro.backends.MITxProOAuth2"
XPRO = "usher.lms.backends.XproOauth2"


class FlatFeatures(dict):
    """FEATURES of a release with flat settings: its keys are settings of the module."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.module, name, value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self.module, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self.module, name, default)


def platform_settings(*, flat: bool = False, **settings: Any) -> SimpleNamespace:
    """The platform's settings at the end of production.py, before the plugins. flat: whether
    features are flat settings."""
    lms_settings = SimpleNamespace(
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.AllowAllUsersModelBackend"],
        REGISTRATION_EXTRA_FIELDS={"country": "required", "city": "hidden"},
        REGISTRATION_RATELIMIT="60/7d",
        LOGIN_REDIRECT_WHITELIST=["apps.lms.example"],
        IDA_LOGOUT_URI_LIST=["http://studio.lms.example/logout/"],
        MIDDLEWARE=["one"],
        **{**USHER_SETTINGS, **settings},
    )
    lms_settings.FEATURES = (
        FlatFeatures(lms_settings) if flat else {"ENABLE_AUTHN_MICROFRONTEND": True}
    )
    return lms_settings


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("settings_file", [production, devstack])
def test_all_settings_of_the_manual_procedure_are_set(flat: bool, settings_file: Any) -> None:
    settings = platform_settings(flat=flat)

    settings_file.plugin_settings(settings)

    for name in (
        "ALLOW_PUBLIC_ACCOUNT_CREATION",
        "ENABLE_COMBINED_LOGIN_REGISTRATION",
        "ENABLE_THIRD_PARTY_AUTH",
        "ENABLE_OAUTH2_PROVIDER",
        "SKIP_EMAIL_VALIDATION",
    ):
        assert settings.FEATURES[name] is True
    assert settings.FEATURES["THIRD_PARTY_AUTH_HINT"] == "oa2-mitxpro-oauth2"
    assert settings.THIRD_PARTY_AUTH_BACKENDS == [MITXPRO, XPRO]
    assert settings.AUTHENTICATION_BACKENDS[:2] == [MITXPRO, XPRO]
    assert settings.AUTHENTICATION_BACKENDS[-1].endswith("AllowAllUsersModelBackend")
    assert settings.REGISTRATION_EXTRA_FIELDS == {
        "country": "hidden",
        "city": "hidden",
        "honor_code": "hidden",
        "terms_of_service": "hidden",
    }
    assert settings.IDA_LOGOUT_URI_LIST[1:] == USHER_SETTINGS["USHER_LOGOUT_URIS"]
    assert settings.LOGIN_REDIRECT_WHITELIST[1:] == ["app.example:8013", "xpro.example:8053"]
    assert settings.REGISTRATION_RATELIMIT == "usher.lms.limits.registration_rate"
    assert settings.USHER_REGISTRATION_RATELIMIT == "60/7d"
    assert settings.SOCIAL_AUTH_OAUTH_SECRETS == {}


def test_applying_the_settings_twice_changes_nothing() -> None:
    """Plugins' settings run several times: devstack imports production, and Tutor's patches run
    them again."""
    settings = platform_settings()
    production.plugin_settings(settings)
    values_after_first = dict(vars(settings))

    devstack.plugin_settings(settings)

    assert vars(settings) == values_after_first


def test_settings_without_applications_do_not_change_the_lms() -> None:
    settings = platform_settings(USHER_BACKENDS={}, USHER_LOGOUT_URIS=[])
    before = {name: value for name, value in vars(settings).items() if "USHER" not in name}

    common.plugin_settings(settings)
    production.plugin_settings(settings)

    for name, value in before.items():
        assert getattr(settings, name) == value
    assert settings.FEATURES == {"ENABLE_AUTHN_MICROFRONTEND": True}


def test_the_common_settings_only_set_defaults() -> None:
    """lms.env.yml is read after the common settings, and must be able to override them."""
    settings = SimpleNamespace()

    common.plugin_settings(settings)

    assert settings.USHER_BACKENDS == {}
    assert not hasattr(settings, "AUTHENTICATION_BACKENDS")


def test_a_backend_whose_package_is_missing_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = platform_settings(
        USHER_BACKENDS={"mitxpro-oauth2": "mitxpro-oauth2", "gone": "no-such"}
    )

    production.plugin_settings(settings)

    assert settings.AUTHENTICATION_BACKENDS[0] == MITXPRO
    assert len(settings.AUTHENTICATION_BACKENDS) == 2
    assert "gone is left out" in caplog.text


@pytest.mark.parametrize(
    ("default", "hint"),
    [("xpro-oauth2", "oa2-xpro-oauth2"), ("", None)],
    ids=["named", "not named"],
)
def test_the_login_hint_is_the_default_backend(default: str, hint: str | None) -> None:
    settings = platform_settings(USHER_DEFAULT_BACKEND=default)

    production.plugin_settings(settings)

    assert settings.FEATURES.get("THIRD_PARTY_AUTH_HINT") == hint


def test_the_middleware_for_anonymous_visitors_is_added_by_a_setting() -> None:
    assert "usher" not in str(middleware_with(redirect_anonymous=False))
    assert (
        middleware_with(redirect_anonymous=True)[-1]
        == "usher.lms.middleware.AnonymousToApplication"
    )


def middleware_with(*, redirect_anonymous: bool) -> list[str]:
    settings = platform_settings(USHER_REDIRECT_ANONYMOUS=redirect_anonymous)
    production.plugin_settings(settings)
    return settings.MIDDLEWARE


def test_the_plugin_s_settings_modules_exist() -> None:
    from importlib import import_module

    for kind, module_description in UsherLmsConfig.plugin_app["settings_config"][LMS].items():
        settings_module = import_module(f"usher.lms.{module_description['relative_path']}")
        assert callable(settings_module.plugin_settings), kind


def test_requests_to_the_application_time_out_after_20_seconds() -> None:
    settings = platform_settings()
    production.plugin_settings(settings)
    assert settings.SOCIAL_AUTH_REQUESTS_TIMEOUT == 20.0


@pytest.mark.parametrize("name", ["SOCIAL_AUTH_REQUESTS_TIMEOUT", "SOCIAL_AUTH_URLOPEN_TIMEOUT"])
def test_the_operator_s_own_timeout_is_kept(name: str) -> None:
    settings = platform_settings(**{name: 3})
    production.plugin_settings(settings)
    assert getattr(settings, name) == 3
    # The operator's, or missing if the operator set the other one: the plugin adds none.
    assert getattr(settings, "SOCIAL_AUTH_REQUESTS_TIMEOUT", 3) == 3
