"""The plugin's settings, applied to objects like the settings modules of each release."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from usher.lms.apps import LMS, UsherLmsConfig
from usher.lms.settings import common, devstack, production

TOKENS = {
    "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2", "xpro-oauth2": "ol-oauth2"},
    "USHER_LOGOUT_URIS": ["http://app.example:8013/logout/", "http://xpro.example:8053/logout/"],
}
MITXPRO = "social_auth_mitxpro.backends.MITxProOAuth2"
XPRO = "usher.lms.backends.XproOauth2"


class Flat(dict):
    """FEATURES of a release with flat settings: its keys are settings of the module."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.module, name, value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self.module, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self.module, name, default)


def module(*, flat: bool = False, **settings: Any) -> SimpleNamespace:
    """The platform's settings at the end of production.py, before the plugins. flat: whether
    features are flat settings."""
    lms_settings = SimpleNamespace(
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.AllowAllUsersModelBackend"],
        REGISTRATION_EXTRA_FIELDS={"country": "required", "city": "hidden"},
        REGISTRATION_RATELIMIT="60/7d",
        LOGIN_REDIRECT_WHITELIST=["apps.lms.example"],
        IDA_LOGOUT_URI_LIST=["http://studio.lms.example/logout/"],
        MIDDLEWARE=["one"],
        **{**TOKENS, **settings},
    )
    lms_settings.FEATURES = Flat(lms_settings) if flat else {"ENABLE_AUTHN_MICROFRONTEND": True}
    return lms_settings


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("turn", [production, devstack])
def test_everything_the_manual_asks(flat: bool, turn: Any) -> None:
    settings = module(flat=flat)

    turn.plugin_settings(settings)

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
    assert settings.IDA_LOGOUT_URI_LIST[1:] == TOKENS["USHER_LOGOUT_URIS"]
    assert settings.LOGIN_REDIRECT_WHITELIST[1:] == ["app.example:8013", "xpro.example:8053"]
    assert settings.REGISTRATION_RATELIMIT == "usher.lms.limits.registration_rate"
    assert settings.USHER_REGISTRATION_RATELIMIT == "60/7d"
    assert settings.SOCIAL_AUTH_OAUTH_SECRETS == {}


def test_a_second_turn_changes_nothing() -> None:
    """Plugins' settings run several times: devstack imports production, and Tutor's patches run
    them again."""
    settings = module()
    production.plugin_settings(settings)
    once = dict(vars(settings))

    devstack.plugin_settings(settings)

    assert vars(settings) == once


def test_without_applications_the_lms_is_not_changed() -> None:
    settings = module(USHER_BACKENDS={}, USHER_LOGOUT_URIS=[])
    before = {name: value for name, value in vars(settings).items() if "USHER" not in name}

    common.plugin_settings(settings)
    production.plugin_settings(settings)

    for name, value in before.items():
        assert getattr(settings, name) == value
    assert settings.FEATURES == {"ENABLE_AUTHN_MICROFRONTEND": True}


def test_the_common_turn_only_sets_defaults() -> None:
    """lms.env.yml is read after the common settings, and must be able to override them."""
    settings = SimpleNamespace()

    common.plugin_settings(settings)

    assert settings.USHER_BACKENDS == {}
    assert not hasattr(settings, "AUTHENTICATION_BACKENDS")


def test_a_missing_package_does_not_keep_the_lms_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = module(USHER_BACKENDS={"mitxpro-oauth2": "mitxpro-oauth2", "gone": "no-such"})

    production.plugin_settings(settings)

    assert settings.AUTHENTICATION_BACKENDS[0] == MITXPRO
    assert len(settings.AUTHENTICATION_BACKENDS) == 2
    assert "gone is left out" in caplog.text


@pytest.mark.parametrize(
    ("default", "hint"), [("xpro-oauth2", "oa2-xpro-oauth2"), ("", None)], ids=["named", "choice"]
)
def test_where_login_redirects(default: str, hint: str | None) -> None:
    settings = module(USHER_DEFAULT_BACKEND=default)

    production.plugin_settings(settings)

    assert settings.FEATURES.get("THIRD_PARTY_AUTH_HINT") == hint


def test_anonymous_visitors_are_sent_on_by_choice() -> None:
    assert "usher" not in str(with_middleware(False))
    assert with_middleware(True)[-1] == "usher.lms.middleware.AnonymousToApplication"


def with_middleware(on: bool) -> list[str]:
    settings = module(USHER_REDIRECT_ANONYMOUS=on)
    production.plugin_settings(settings)
    return settings.MIDDLEWARE


def test_the_plugin_s_modules_are_where_it_says() -> None:
    from importlib import import_module

    for kind, described in UsherLmsConfig.plugin_app["settings_config"][LMS].items():
        found = import_module(f"usher.lms.{described['relative_path']}")
        assert callable(found.plugin_settings), kind


def test_a_busy_application_has_time_to_answer() -> None:
    settings = module()
    production.plugin_settings(settings)
    assert settings.SOCIAL_AUTH_REQUESTS_TIMEOUT == 20.0


@pytest.mark.parametrize("name", ["SOCIAL_AUTH_REQUESTS_TIMEOUT", "SOCIAL_AUTH_URLOPEN_TIMEOUT"])
def test_the_operator_s_own_time_out_stays(name: str) -> None:
    settings = module(**{name: 3})
    production.plugin_settings(settings)
    assert getattr(settings, name) == 3
    assert getattr(settings, "SOCIAL_AUTH_REQUESTS_TIMEOUT", 3) == 3
