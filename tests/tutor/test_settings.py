"""The plugin's settings as Tutor renders them, in every release and mode."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.tutor import TutorRoot, read_lms_settings
from tests.tutor.conftest import ORDERS

#: The classes of the sign-in backends.
MITXPRO = "social_auth_mitxpro.backends.MITxProOAuth2"
OL = "ol_social_auth.backends.OLOAuth2"
ENABLED_FEATURES = (
    "ALLOW_PUBLIC_ACCOUNT_CREATION",
    "ENABLE_COMBINED_LOGIN_REGISTRATION",
    "ENABLE_THIRD_PARTY_AUTH",
    "ENABLE_OAUTH2_PROVIDER",
    "SKIP_EMAIL_VALIDATION",
)
#: Settings that newer platforms have both as a setting of this name and in FEATURES.
FLAT_SETTINGS = ("ENABLE_AUTHN_MICROFRONTEND", "SKIP_EMAIL_VALIDATION", "ENABLE_THIRD_PARTY_AUTH")
MODES = ("local", "dev", "k8s")
Rendered = Callable[..., TutorRoot]


def assert_connected(root: TutorRoot, mode: str) -> dict[str, Any]:
    """Asserts that the LMS has all settings of the manual procedure, for MITx Online. Returns its
    settings."""
    settings = read_lms_settings(root, mode)
    assert [settings[f"FEATURES.{name}"] for name in ENABLED_FEATURES] == [True] * len(
        ENABLED_FEATURES
    )
    assert settings["FEATURES.ENABLE_AUTHN_MICROFRONTEND"] is False
    assert settings["FEATURES.THIRD_PARTY_AUTH_HINT"] == "oa2-mitxpro-oauth2"
    assert settings["THIRD_PARTY_AUTH_BACKENDS"] == [MITXPRO]
    backends = settings["AUTHENTICATION_BACKENDS"]
    assert backends.count(MITXPRO) == 1
    # In dev mode the platform puts another backend in front.
    assert backends.index(MITXPRO) == (1 if mode == "dev" else 0)
    # Other ways to sign in, and the permissions of the platform, are not changed.
    assert "common.djangoapps.third_party_auth.saml.SAMLAuthBackend" in backends
    assert "bridgekeeper.backends.RulePermissionBackend" in backends
    fields = settings["REGISTRATION_EXTRA_FIELDS"]
    assert (fields["country"], fields["terms_of_service"]) == ("hidden", "hidden")
    logout = settings["IDA_LOGOUT_URI_LIST"]
    assert logout.count("http://mitxonline.odl.local:8013/logout/") == 1
    assert any("studio." in address for address in logout)
    assert "mitxonline.odl.local:8013" in settings["LOGIN_REDIRECT_WHITELIST"]
    assert settings["REGISTRATION_RATELIMIT"] == "usher.lms.limits.registration_rate"
    application = root.description().applications[0]
    assert settings["SOCIAL_AUTH_OAUTH_SECRETS"] == {"mitxpro-oauth2": application.client_secret}
    assert len(application.client_secret) >= 32  # a generated secret
    return settings


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS, ids="-then-".join)
def test_the_lms_is_connected_in_each_order_of_plugins(
    rendered: Rendered, release: int, order: tuple[str, ...], mode: str
) -> None:
    assert_connected(rendered(release, order), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.xdist_group("tutor-22")
def test_the_lms_is_connected_in_nightly(rendered: Rendered, mode: str) -> None:
    root = rendered(22, nightly=True)
    assert root.run("--version").stdout.strip().endswith("-main")
    assert_connected(root, mode)


@pytest.mark.parametrize("mode", MODES)
def test_flat_settings_agree_with_features(rendered: Rendered, release: int, mode: str) -> None:
    """The platform reads the flat setting in some places and FEATURES in others."""
    settings = read_lms_settings(rendered(release), mode)
    if release == 20:  # its platform has no flat settings
        assert [settings[name] for name in FLAT_SETTINGS] == [None] * len(FLAT_SETTINGS)
    else:
        assert [settings[name] for name in FLAT_SETTINGS] == [
            settings[f"FEATURES.{name}"] for name in FLAT_SETTINGS
        ]


def test_a_setting_keeps_the_sign_in_micro_frontend_enabled(own_root: TutorRoot) -> None:
    own_root.configure(USHER_AUTHN_MICROFRONTEND=True)
    own_root.run("config", "save")
    for mode in MODES:
        settings = read_lms_settings(own_root, mode)
        assert settings["FEATURES.ENABLE_AUTHN_MICROFRONTEND"] is True
        assert settings["FEATURES.THIRD_PARTY_AUTH_HINT"] == "oa2-mitxpro-oauth2"


@pytest.mark.newest
def test_each_of_two_applications_has_a_backend_of_its_own(own_root: TutorRoot) -> None:
    own_root.configure(
        USHER_APPLICATIONS=[
            {"name": "mitxonline", "backend": "ol-oauth2"},
            {"name": "mitxpro", "backend": "xpro-oauth2", "backend_base": "ol-oauth2"},
        ],
        USHER_DEFAULT_APPLICATION="mitxpro",
    )
    own_root.run("config", "save")
    settings = read_lms_settings(own_root, "local")
    assert settings["AUTHENTICATION_BACKENDS"][:2] == [OL, "usher.lms.backends.XproOauth2"]
    assert settings["IDA_LOGOUT_URI_LIST"][:2] == [
        "http://mitxonline.odl.local:8013/logout/",
        "http://xpro.odl.local:8053/logout/",
    ]
    assert settings["FEATURES.THIRD_PARTY_AUTH_HINT"] == "oa2-xpro-oauth2"
    secrets = settings["SOCIAL_AUTH_OAUTH_SECRETS"]
    assert len(set(secrets.values())) == len(secrets) == 2


@pytest.mark.newest
def test_an_lms_without_sign_in_has_the_settings_of_an_lms_without_the_plugin(
    own_root: TutorRoot,
) -> None:
    own_root.configure(USHER_SIGN_IN=False)
    own_root.run("config", "save")
    without_sign_in = read_lms_settings(own_root, "local")
    own_root.run("plugins", "disable", "usher")
    own_root.run("config", "save")
    assert without_sign_in == read_lms_settings(own_root, "local")
    remaining_files = [path for path in own_root.env.rglob("*") if "usher" in path.name]
    assert remaining_files == []
    assert MITXPRO not in without_sign_in["AUTHENTICATION_BACKENDS"]
    assert without_sign_in["FEATURES.ENABLE_AUTHN_MICROFRONTEND"] is True


def test_an_image_without_the_package_usher_loads_its_settings(
    rendered: Rendered, release: int
) -> None:
    settings = read_lms_settings(rendered(release), "local", with_usher=False)
    assert MITXPRO not in settings["AUTHENTICATION_BACKENDS"]
    assert settings["FEATURES.ENABLE_AUTHN_MICROFRONTEND"] is True
