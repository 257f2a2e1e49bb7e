"""``/logout/`` and back-channel sign-out, in both directions."""

import json
import threading
import time
from datetime import timedelta
from itertools import pairwise
from urllib.parse import parse_qs

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import IntegrityError
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from jwcrypto import jwk, jwt

from tests.support.receiver import receiver
from usher.application.audit import bounds
from usher.application.audit.models import AuditEvent
from usher.application.provider.models import SignedInSession, SignOutMessage
from usher.application.provider.signout import sending, sessions
from usher.contract import signatures
from usher.contract.paths import ApplicationPath

SECRET = "webhook-secret-webhook-secret-webhook-secret"
# In seconds. A test may run hours after pytest computed the times in its parameters.
A_DAY = 24 * 60 * 60


@pytest.fixture
def fake_lms(settings, transactional_db):
    """A server at the address where the LMS receives sign-out messages."""
    with receiver() as server:
        settings.OPENEDX_API_BASE_URL = server.url
        settings.OPENEDX_OAUTH_PROVIDER = "mitxpro-oauth2"
        settings.OPENEDX_SOCIAL_LOGIN_PATH = ""
        yield server
    sending.alarm.set(None)  # no message may be sent again during later tests


def is_signed_in(browser):
    return browser.get("/api/v1/me/").status_code == 200


# -- the page


@pytest.mark.django_db
def test_the_lms_s_frame_ends_the_session_and_gets_an_empty_page(lms):
    answer = lms.browser.get("/logout/?no_redirect=1")
    assert answer.status_code == 200
    assert "X-Frame-Options" not in answer
    assert "no-store" in answer["Cache-Control"]
    assert Session.objects.count() == 0


@pytest.mark.django_db
def test_without_no_redirect_the_browser_is_redirected_to_the_lms(lms, settings):
    settings.LOGOUT_REDIRECT_URL = "http://lms.example:8000/logout"
    settings.SITE_BASE_URL = "http://app.example:8013"
    answer = lms.browser.get("/logout/?next=http://evil.example")
    assert answer.url == (
        "http://lms.example:8000/logout?redirect_url=http%3A%2F%2Fapp.example%3A8013%2F"
    )
    assert Session.objects.count() == 0


@pytest.mark.django_db
def test_sign_out_redirects_to_a_page_of_the_application_before_an_lms_is_connected(lms, settings):
    settings.LOGOUT_REDIRECT_URL = ""
    assert lms.browser.get("/logout/?next=/catalog/%3Fa=b").url == "/catalog/?a=b"
    assert lms.browser.post("/logout/").url == "/"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/",
        "https:evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "http:///evil.example",
    ],
)
def test_sign_out_never_redirects_to_another_site(lms, settings, target):
    settings.LOGOUT_REDIRECT_URL = ""
    assert lms.browser.get("/logout/", {"next": target}).url == "/"


@pytest.mark.django_db
def test_sign_out_also_redirects_an_anonymous_visitor(client, settings):
    settings.LOGOUT_REDIRECT_URL = "http://lms.example:8000/logout"
    assert client.get("/logout/").url.startswith("http://lms.example:8000/logout")


# -- messages to the LMS


@pytest.mark.django_db(transaction=True)
def test_sign_out_sends_a_signed_logout_token_to_the_lms(fake_lms, lms, settings):
    lms.browser.get("/logout/?no_redirect=1")
    (message,) = fake_lms.wait_for(1)
    assert message.path == "/usher/backchannel-logout/mitxpro-oauth2/"
    (text,) = parse_qs(message.body.decode())["logout_token"]
    keys = jwk.JWKSet.from_json(json.dumps(Client().get(ApplicationPath.JWKS).json()))
    token = jwt.JWT(jwt=text, key=keys, algs=["RS256"])
    claims, header = json.loads(token.claims), json.loads(token.header)
    assert header["typ"] == "logout+jwt"
    assert claims["iss"] == settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"]
    assert claims["aud"] == lms.record.client_id
    assert claims["sub"] == "ada-at-lms"
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    two_minutes = 120
    assert claims["exp"] - claims["iat"] <= two_minutes
    assert claims["jti"]
    assert "nonce" not in claims
    assert not SignOutMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_by_allauth_notifies_the_lms(fake_lms, lms):
    lms.browser.post("/accounts/logout/")
    assert len(fake_lms.wait_for(1)) == 1


@pytest.mark.django_db(transaction=True)
def test_the_sign_out_page_does_not_wait_for_a_slow_lms(fake_lms, lms, monkeypatch):
    # This time is much longer than the page needs, even on a busy machine.
    monkeypatch.setattr(sending, "REQUEST_SECONDS", 60.0)
    fake_lms.delay = threading.Event()  # the LMS answers when it is set
    started = time.monotonic()
    assert lms.browser.get("/logout/?no_redirect=1").status_code == 200
    assert time.monotonic() - started < 20
    fake_lms.delay.set()
    assert len(fake_lms.wait_for(1)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_message_that_the_lms_did_not_accept_is_sent_later(fake_lms, lms):
    fake_lms.status = 503
    lms.browser.get("/logout/?no_redirect=1")
    fake_lms.wait_for(1)
    message = SignOutMessage.objects.get()
    assert (message.attempts, message.last_error) == (1, "the LMS answered 503")
    assert message.next_attempt_at > timezone.now()
    assert sending.deliver_due() == 0, "the next attempt is not due yet"
    fake_lms.status = 200
    SignOutMessage.objects.update(next_attempt_at=timezone.now())
    assert sending.deliver_due() == 1
    assert not SignOutMessage.objects.exists()
    first, second = fake_lms.requests
    assert first.body != second.body, "each attempt has a token of its own"


@pytest.mark.django_db(transaction=True)
def test_a_failed_sign_out_message_is_sent_again_by_the_same_process(fake_lms, lms, monkeypatch):
    monkeypatch.setattr(sending, "FIRST_RETRY", timedelta(seconds=0.2))
    fake_lms.status = 503
    lms.browser.get("/logout/?no_redirect=1")
    fake_lms.wait_for(1)
    fake_lms.status = 200
    fake_lms.wait_for(2)
    deadline = time.monotonic() + 90
    while SignOutMessage.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not SignOutMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_message_is_not_repeated_after_404(fake_lms, lms):
    fake_lms.status = 404
    lms.browser.get("/logout/?no_redirect=1")
    fake_lms.wait_for(1)
    assert sending.deliver_due() == 0
    assert not SignOutMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_message_is_given_up_after_a_day(fake_lms, lms):
    fake_lms.status = 503
    lms.browser.get("/logout/?no_redirect=1")
    fake_lms.wait_for(1)
    SignOutMessage.objects.update(
        next_attempt_at=timezone.now(), created_at=timezone.now() - timedelta(hours=25)
    )
    sending.deliver_due()
    assert not SignOutMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_client_s_own_sign_out_address_receives_the_message(lms, make_client):
    with receiver() as server:
        make_client("second-lms", backchannel_logout_url=server.url + "/there/")
        lms.browser.get("/logout/?no_redirect=1")
        (message,) = server.wait_for(1)
        assert message.path == "/there/"


# -- messages of the LMS


@pytest.fixture
def send_sign_out(settings):
    """A function that sends the LMS's message about a learner who signed out of the LMS."""
    settings.USHER_WEBHOOK_SECRET = SECRET

    def send(
        username="ada-at-lms",
        *,
        event_id="event-1",
        secret=SECRET,
        signed_out_at=None,
        body=None,
        timestamp=None,
        headers=None,
    ):
        """signed_out_at, timestamp: when the learner signed out and when the message was sent; now
        by default. body: replaces the message. headers: replace the signed headers."""
        if body is None:
            at = signed_out_at or time.time()
            body = json.dumps({"event_id": event_id, "username": username, "at": at}).encode()
        timestamp = int(timestamp or time.time())
        all_headers = {
            signatures.HEADER_EVENT_ID: event_id,
            signatures.HEADER_TIMESTAMP: str(timestamp),
            signatures.HEADER_SIGNATURE: signatures.sign(
                secret, timestamp=timestamp, event_id=event_id, body=body
            ),
        } | (headers or {})
        return Client().post(
            ApplicationPath.BACKCHANNEL_LOGOUT, body, "application/json", headers=all_headers
        )

    return send


@pytest.mark.django_db
def test_a_sign_out_from_the_lms_ends_all_sessions_of_the_learner(lms, learner, send_sign_out):
    phone = Client()
    phone.force_login(learner)
    answer = send_sign_out()
    assert answer.status_code == 200
    assert answer.json() == {"ended": 2}, "the sessions of the learner's browser and phone"
    assert Session.objects.count() == SignedInSession.objects.count() == 0
    assert AuditEvent.objects.filter(name="lms-sign-out", succeeded=True).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("number_of_changes", [1, 2])
def test_a_sign_out_from_the_lms_ends_a_session_after_changes_of_the_password(
    learner, send_sign_out, number_of_changes
):
    """Django gives the session a new key when its owner changes the password."""
    learner.set_password("first-pass-word")
    learner.save()
    browser = Client()
    assert browser.login(username=learner.username, password="first-pass-word")
    first_key = browser.session.session_key
    passwords = ["first-pass-word", "second-pass-word", "third-pass-word"]
    for old_password, new_password in pairwise(passwords[: number_of_changes + 1]):
        form = {
            "oldpassword": old_password,
            "password1": new_password,
            "password2": new_password,
        }
        assert browser.post(reverse("account_change_password"), form).status_code == 302
    assert browser.session.session_key != first_key
    assert is_signed_in(browser)

    assert send_sign_out().json() == {"ended": 1}

    assert not is_signed_in(browser)
    assert not Session.objects.exists()
    assert not SignedInSession.objects.exists()


@pytest.mark.django_db
def test_recording_the_unchanged_key_of_a_session_takes_no_query(
    learner, django_assert_num_queries
):
    browser = Client()
    browser.force_login(learner)
    request = RequestFactory().get("/")
    request.session = browser.session
    with django_assert_num_queries(0):
        sessions.record_new_key(request.session)
        sessions.record_new_key(None)  # a request without a session


@pytest.mark.django_db
def test_a_repeated_message_ends_no_session(lms, learner, send_sign_out):
    send_sign_out()
    browser = Client()
    browser.force_login(learner)
    assert send_sign_out().json() == {"ended": 0}
    assert Session.objects.count() == 1


@pytest.mark.django_db
def test_a_message_whose_processing_fails_is_sent_again(lms, learner, send_sign_out, monkeypatch):
    """A conflict in the database must not count as a message that was received before."""

    def fail(*_args, **_options):
        raise IntegrityError("a conflict")

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "end_all", fail)
        with pytest.raises(IntegrityError):  # answered with 500
            send_sign_out()
    assert send_sign_out().json() == {"ended": 1}


@pytest.mark.django_db
def test_a_delayed_message_ends_no_session_that_began_after_the_sign_out(lms, send_sign_out):
    assert send_sign_out(signed_out_at=time.time() - 240).json() == {"ended": 0}
    assert Session.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"secret": "wrong"}, 401),
        ({"timestamp": time.time() - 3600}, 401),
        ({"timestamp": time.time() + A_DAY}, 401),
        ({"headers": {signatures.HEADER_SIGNATURE: ""}}, 401),
        ({"headers": {signatures.HEADER_EVENT_ID: "event-2"}}, 401),
        ({"headers": {signatures.HEADER_EVENT_ID: ""}}, 400),
        ({"headers": {signatures.HEADER_TIMESTAMP: "yesterday"}}, 400),
        ({"body": b"rubbish"}, 400),
        ({"body": b"[]"}, 400),
        ({"body": b'{"username": "ada-at-lms"}'}, 400),
        ({"body": b'{"username": "ada-at-lms", "at": 1e400}'}, 400),
        ({"signed_out_at": "0001-01-01T00:00:00+14:00"}, 400),
        ({"body": b'{"username": ["x"], "at": 1}'}, 400),
        ({"body": b'{"username": "a\\u0000b", "at": 1}'}, 400),
        ({"body": b"x" * 20_000}, 413),
    ],
)
def test_an_invalid_message_ends_no_session(lms, send_sign_out, changes, status):
    assert send_sign_out(**changes).status_code == status
    assert Session.objects.count() == 1


@pytest.mark.django_db
def test_forged_messages_are_limited_and_add_few_events_to_the_audit_log(
    lms, send_sign_out, monkeypatch
):
    # The audit log limits its events per minute. This window is longer than the test.
    monkeypatch.setattr(bounds, "WINDOW_SECONDS", 10**10)
    cache.clear()
    send_sign_out("nobody", event_id="first")  # valid, so its address counts as the LMS's
    phone = Client(REMOTE_ADDR="203.0.113.7")
    forged = {
        signatures.HEADER_TIMESTAMP: str(int(time.time())),
        signatures.HEADER_SIGNATURE: "v1=" + "0" * 64,
    }
    statuses = [
        phone.post(
            ApplicationPath.BACKCHANNEL_LOGOUT,
            b"{}",
            "application/json",
            headers={**forged, signatures.HEADER_EVENT_ID: f"forged-{n}"},
        ).status_code
        for n in range(500)
    ]
    assert statuses[0] == 401
    assert set(statuses[240:]) == {429}, "240 failures a minute are allowed"
    events = AuditEvent.objects.filter(name="lms-sign-out", succeeded=False)
    assert events.count() == bounds.FAILURES_A_WINDOW
    assert send_sign_out().json() == {"ended": 1}
    cache.clear()


@pytest.mark.django_db
def test_messages_are_rejected_with_503_if_no_secret_is_configured(lms, send_sign_out, settings):
    settings.USHER_WEBHOOK_SECRET = ""
    assert send_sign_out(secret="").status_code == 503
    assert Session.objects.count() == 1


@pytest.mark.django_db
def test_a_message_about_an_unknown_learner_ends_no_session(lms, send_sign_out):
    assert send_sign_out("nobody").json() == {"ended": 0}
