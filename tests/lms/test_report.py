"""usher_report: the facts that doctor compares. It prints no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lms.application import CLIENT_SECRET, WEBHOOK_SECRET
from tests.lms.conftest import TOKEN, WORKER, Lms, account
from tests.lms.test_batch import ACCOUNTS, post
from usher.contract import report as contract
from usher.contract.fingerprints import fingerprint

SECRET_AT_LMS = "secret-of-campus-at-the-lms"


def report(lms: Lms, *options: str) -> dict[str, Any]:
    """The object that ``usher_report`` prints, which must contain no secret."""
    result = lms.run("usher_report", *options)
    assert result.returncode == 0, result.stderr
    for secret in (TOKEN, CLIENT_SECRET, WEBHOOK_SECRET, SECRET_AT_LMS):
        assert secret not in result.stdout + result.stderr
    return json.loads(result.stdout)


def provider_record(facts: dict[str, Any]) -> dict[str, Any]:
    backend = "mitxpro-oauth2"
    return next(record for record in facts["providers"] if record["backend_name"] == backend)


def client_of_the_application(facts: dict[str, Any]) -> dict[str, Any]:
    """The OAuth client of the LMS that the application uses."""
    clients = facts["oauth_clients"]
    return next(client for client in clients if client["client_id"] == "campus-at-the-lms")


def test_the_report_of_a_healthy_connection_has_all_facts(lms: Lms) -> None:
    facts = report(lms)

    assert set(facts) == set(contract.LmsReport.__annotations__)
    assert set(contract.SETTINGS) <= set(facts["settings"])
    assert facts["settings"]["SITE_ID"] == 2
    assert f"{lms.application.url}/logout/" in facts["settings"]["IDA_LOGOUT_URI_LIST"]
    assert facts["features"]["ENABLE_THIRD_PARTY_AUTH"] is True
    assert facts["features"]["SKIP_EMAIL_VALIDATION"] is True
    assert facts["features"]["THIRD_PARTY_AUTH_HINT"] == "oa2-mitxpro-oauth2"
    assert [site["domain"] for site in facts["sites"] if site["current"]] == [
        lms.url.split("//")[1]
    ]
    assert facts["login_service"] is True
    errors = {backend["name"]: backend["error"] for backend in facts["backends"]}
    assert (errors["mitxpro-oauth2"], errors["xpro-oauth2"]) == ("", "")
    assert facts["private_settings"] is False


def test_the_report_has_fingerprints_of_the_application_s_secrets(lms: Lms) -> None:
    facts = report(lms, "--no-probe")

    assert "token_probes" not in facts
    provider = provider_record(facts)
    assert provider["secret_fingerprint"] == fingerprint(CLIENT_SECRET)
    assert provider["other_settings_error"] == ""
    client = client_of_the_application(facts)
    assert client["secret_fingerprint"] == fingerprint(SECRET_AT_LMS)
    assert client["redirect_uris"] == [f"{lms.application.url}/login/_private/complete"]
    assert facts["service_worker"]["username"] == WORKER
    assert facts["service_worker"]["token_fingerprint"] == fingerprint(TOKEN)
    assert facts["connections"][0]["webhook_secret_fingerprint"] == fingerprint(WEBHOOK_SECRET)


def test_a_client_secret_changed_by_hand_has_no_fingerprint(lms: Lms) -> None:
    from_clause = "from oauth2_provider_application where client_id = 'campus-at-the-lms'"
    before = lms.value(f"select client_secret {from_clause}")
    update = "update oauth2_provider_application set client_secret = ? where client_id = ?"
    lms.execute(update, "pbkdf2_sha256$1$salt$another", "campus-at-the-lms")
    try:
        facts = report(lms, "--no-probe")
    finally:
        lms.execute(update, before, "campus-at-the-lms")

    assert client_of_the_application(facts)["secret_fingerprint"] == ""


@pytest.mark.parametrize(
    ("token_status", "expected"), [(200, (400, "invalid_grant")), (401, (401, "invalid_client"))]
)
def test_the_report_has_the_answer_of_the_application_s_token_endpoint(
    lms: Lms, token_status: int, expected: tuple[int, str]
) -> None:
    """With 200, the application accepts the LMS's client, and refuses only the code that the report
    made up."""
    lms.application.token_status = token_status
    try:
        probe = report(lms)["token_probes"][0]
    finally:
        lms.application.token_status = 200

    assert (probe["status"], probe["oauth_error"]) == expected


@pytest.mark.parametrize(
    ("text", "complaint"), [("", "empty"), ("{", "not JSON"), ("[]", "not a JSON object")]
)
def test_other_settings_that_are_no_json_object_are_reported(
    lms: Lms, text: str, complaint: str
) -> None:
    key = lms.value("select max(id) from third_party_auth_oauth2providerconfig")
    column = "select other_settings from third_party_auth_oauth2providerconfig where id = ?"
    before = lms.value(column, key)
    update = "update third_party_auth_oauth2providerconfig set other_settings = ? where id = ?"
    lms.execute(update, text, key)
    try:
        facts = report(lms, "--no-probe")
    finally:
        lms.execute(update, before, key)

    provider = provider_record(facts)
    assert provider["other_settings"] is None
    assert complaint in provider["other_settings_error"]


def test_the_report_counts_learners_who_can_not_sign_in(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name), account(name + "x")])
    before = report(lms, "--no-probe")["learners"]
    lms.execute("update auth_user set password = '!x' where username = ?", name)
    lms.execute("update auth_user set username = ? where username = ?", name + "y", name + "x")

    after = report(lms, "--no-probe")["learners"]

    assert after["linked"] == before["linked"]
    assert after["unusable_password"] == before["unusable_password"] + 1
    assert after["other_name"] == before["other_name"] + 1
