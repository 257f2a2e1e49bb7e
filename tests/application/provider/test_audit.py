"""The audit log: its events, their values, and the absence of secrets."""

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from usher.application.audit.models import AuditEvent
from usher.application.audit.services import record
from usher.application.audit.text import REDACTED, one_line, safe


@given(st.text())
def test_one_line_returns_a_printable_line_of_at_most_255_characters(text):
    line = one_line(text)
    assert len(line) <= 255
    assert len(line.splitlines()) <= 1
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in line)


@pytest.mark.parametrize(
    "name", ["client_secret", "access_token", "password1", "Authorization", "code", "session_key"]
)
def test_secrets_are_redacted(name):
    assert safe({name: "hidden", "deep": {name: "hidden"}}) == {
        name: REDACTED,
        "deep": {name: REDACTED},
    }


def test_numbers_booleans_and_none_are_logged_unchanged():
    assert safe({"count": 3, "ok": True, "none": None}) == {"count": 3, "ok": True, "none": None}


@pytest.mark.django_db
def test_a_line_break_in_a_username_adds_no_line_to_the_log(caplog):
    record("sign-in", subject="eve\n2026-01-01 [info] sign-in subject=admin", succeeded=False)
    assert "\n" not in AuditEvent.objects.get().subject
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()


@pytest.mark.django_db
def test_sign_ins_are_recorded_with_their_outcome(learner):
    learner.set_password("correct horse battery")
    learner.save()
    browser = Client(REMOTE_ADDR="192.0.2.7")
    form = {"login": "ada", "password": "wrong"}
    browser.post("/accounts/login/", form)
    browser.post("/accounts/login/", form | {"password": "correct horse battery"})
    events = AuditEvent.objects.filter(name="sign-in").order_by("id")
    assert [(event.succeeded, event.address) for event in events] == [
        (False, "192.0.2.7"),
        (True, "192.0.2.7"),
    ]
    assert "correct horse" not in str(list(AuditEvent.objects.values()))


@pytest.mark.django_db
def test_the_address_of_an_event_is_read_from_the_configured_header(rf, settings):
    request = rf.get("/", headers={"X-Real-IP": "198.51.100.9"})
    assert record("x", request=request).address == "127.0.0.1"
    settings.USHER_CLIENT_ADDRESS_HEADER = "X-Real-IP"
    assert record("x", request=request).address == "198.51.100.9"
    settings.USHER_CLIENT_ADDRESS_HEADER = "X-Other"
    assert record("x", request=request).address is None


@pytest.mark.django_db
def test_events_cannot_be_changed_or_deleted_in_the_admin(admin_client):
    event = record("sign-in", subject="ada")
    page = f"/admin/usher_audit/auditevent/{event.pk}/"
    assert admin_client.get("/admin/usher_audit/auditevent/").status_code == 200
    assert admin_client.post(page + "change/", {"name": "other"}).status_code == 403
    assert admin_client.post(page + "delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("sign-in", "Sign-in"),
        ("e-mail-changed", "E-mail address changed"),
        ("client-refused", "Client refused"),
    ],
)
def test_each_event_has_a_title_in_plain_words(name, title):
    assert AuditEvent(name=name).title == title
