"""Faults of settings. The LMS or the application is restarted with each wrong setting."""

import pytest

from tests.doctor.faults.proxy import proxy
from tests.doctor.faults.system import System

pytestmark = pytest.mark.slow

#: The classes of Usher's two backends, as the manual procedure writes them to the settings.
BACKENDS = [
    "social_auth_mitxpro.backends.MITxProOAuth2",
    "ol_social_auth.backends.OLOAuth2",
]


def manual_settings(system: System, **other_settings: object) -> dict[str, object]:
    """The LMS's settings after the manual procedure, without Usher's plugin. other_settings: values
    that differ from these settings."""
    features = {
        "ALLOW_PUBLIC_ACCOUNT_CREATION": True,
        "ENABLE_COMBINED_LOGIN_REGISTRATION": True,
        "ENABLE_THIRD_PARTY_AUTH": True,
        "ENABLE_OAUTH2_PROVIDER": True,
        "SKIP_EMAIL_VALIDATION": True,
        "ENABLE_AUTHN_MICROFRONTEND": False,
    }
    settings: dict[str, object] = {
        "USHER_BACKENDS": {},
        "THIRD_PARTY_AUTH_BACKENDS": BACKENDS,
        "REGISTRATION_EXTRA_FIELDS": {"country": "hidden", "terms_of_service": "hidden"},
        "REGISTRATION_RATELIMIT": "10000/d",
        "IDA_LOGOUT_URI_LIST": [f"{system.pair.application_url}/logout/"],
    }
    for name, value in other_settings.items():
        target = features if name in features else settings
        target[name] = value
    return {**settings, "FEATURES": features}


def test_the_manual_procedure_leaves_only_the_lms_registration_open(
    reconfigurable_system: System,
) -> None:
    system = reconfigurable_system
    system.serve_lms_with(**manual_settings(system))
    (line,) = system.examine().root_causes
    assert line.id == "LMS-10"
    assert "USHER_BACKENDS names no application" in line.finding.cause


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "other_settings"),
    [
        ("LMS-1", "ENABLE_THIRD_PARTY_AUTH is off", {"ENABLE_THIRD_PARTY_AUTH": False}),
        ("LMS-2", "not among AUTHENTICATION_BACKENDS", {"THIRD_PARTY_AUTH_BACKENDS": []}),
        ("LMS-3", "ENABLE_AUTHN_MICROFRONTEND is on", {"ENABLE_AUTHN_MICROFRONTEND": True}),
        (
            "LMS-4",
            "shows country",
            {"REGISTRATION_EXTRA_FIELDS": {"country": "required", "terms_of_service": "hidden"}},
        ),
        ("LMS-5", "SKIP_EMAIL_VALIDATION is off", {"SKIP_EMAIL_VALIDATION": False}),
        ("LMS-6", "REGISTRATION_RATELIMIT is 60/7d", {"REGISTRATION_RATELIMIT": "60/7d"}),
        ("OUT-1", "not in IDA_LOGOUT_URI_LIST", {"IDA_LOGOUT_URI_LIST": []}),
    ],
)
def test_a_wrong_setting_of_the_lms_is_the_root_cause(
    reconfigurable_system: System,
    expected_id: str,
    expected_text: str,
    other_settings: dict[str, object],
) -> None:
    system = reconfigurable_system
    system.serve_lms_with(**manual_settings(system, **other_settings))
    texts = {line.id: line.finding.seen for line in system.examine().root_causes}
    texts.pop("LMS-10", None)  # the manual procedure leaves the registration open
    assert set(texts) == {expected_id}
    assert expected_text in texts[expected_id]


def test_lms_10_warns_if_people_can_register_in_the_lms(reconfigurable_system: System) -> None:
    system = reconfigurable_system
    system.serve_lms_with(USHER_DIRECT_REGISTRATION=True)
    assert system.root_cause_ids() == ["LMS-10"]
    system.restore_settings()
    assert system.root_cause_ids() == []


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "values"),
    [
        (
            "APP-6",
            "the application asks for ol-oauth2",
            {
                "OPENEDX_OAUTH_PROVIDER": "ol-oauth2",
                "OPENEDX_SOCIAL_LOGIN_PATH": "/auth/login/ol-oauth2/?auth_entry=login",
            },
        ),
        ("OUT-1", "LOGOUT_REDIRECT_URL is not set", {"LOGOUT_REDIRECT_URL": ""}),
        (
            "SVC-1",
            "answers 401",
            {"OPENEDX_SERVICE_WORKER_API_TOKEN": "a-token-that-the-lms-has-never-seen-before"},
        ),
        ("NET-3", "does not answer", {"OPENEDX_API_BASE_URL": "http://127.0.0.1:9"}),
    ],
)
def test_a_wrong_setting_of_the_application_is_the_root_cause(
    reconfigurable_system: System, expected_id: str, expected_text: str, values: dict[str, str]
) -> None:
    system = reconfigurable_system
    # A test before this one may have changed the LMS.
    if system.has_other_settings("lms"):
        system.restore_settings()
    system.serve_application_with(**values)
    report = system.examine()
    assert [line.id for line in report.root_causes] == [expected_id]
    assert expected_text in report.root_causes[0].finding.seen


def test_env_3_names_a_setting_that_was_changed_without_a_restart(system: System) -> None:
    from usher.contract import envfile

    original_content = system.pair.env_file.read_bytes()
    envfile.update(system.pair.env_file, {"LOGOUT_REDIRECT_URL": "http://elsewhere.example/logout"})
    try:
        report = system.examine()
    finally:
        envfile.write_private(system.pair.env_file, original_content)
    assert [line.id for line in report.root_causes] == ["ENV-3"]
    assert "LOGOUT_REDIRECT_URL" in report.root_causes[0].finding.seen


def test_net_5_fails_if_the_proxy_does_not_forward_the_scheme(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(system.pair.lms_url, https=True) as running_proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(running_proxy.certificate))
        report = system.examine(lms_url=running_proxy.url)
    assert [line.id for line in report.root_causes] == ["NET-5"]
    assert "X-Forwarded-Proto" in report.root_causes[0].finding.fix


def test_lms_8_fails_if_the_admin_answers_500(system: System) -> None:
    # The fix names disconnect, because a wrong backend or provider record breaks the admin too.
    with proxy(system.pair.lms_url, failing_path="/admin/") as running_proxy:
        report = system.examine(lms_url=running_proxy.url)
    assert [line.id for line in report.root_causes] == ["LMS-8"]
    assert "usher disconnect" in report.root_causes[0].finding.fix
