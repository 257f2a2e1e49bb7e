"""Signing out of the application or of the LMS ends the session in the other."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lms.application import EVENT, WEBHOOK_SECRET
from tests.lms.conftest import Lms, wait_for
from usher.contract import signatures


def send_logout_token(lms: Lms, token: str, backend: str = "mitxpro-oauth2") -> httpx.Response:
    url = f"{lms.url}/usher/backchannel-logout/{backend}/"
    return httpx.post(url, data={"logout_token": token}, timeout=120, trust_env=False)


def is_signed_in(browser: httpx.Client) -> bool:
    return browser.get("/api/user/v1/me").status_code == 200


def test_a_logout_token_ends_every_session_of_the_learner(lms: Lms, name: str) -> None:
    browser_of_other_learner = lms.sign_in(name + "other")
    first, second = lms.sign_in(name), lms.sign_in(name)
    assert is_signed_in(first)
    assert is_signed_in(second)

    answer = send_logout_token(lms, lms.application.logout_token(name))

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert not is_signed_in(first)
    assert not is_signed_in(second)
    assert is_signed_in(browser_of_other_learner)
    assert is_signed_in(lms.sign_in(name))


def test_a_logout_token_ends_a_session_in_which_the_password_was_changed(
    lms: Lms, name: str
) -> None:
    """Django gives such a session a new key."""
    browser = lms.sign_in(name)
    rights = "update auth_user set is_staff = 1, is_superuser = 1 where username = ?"
    lms.execute(rights, name)
    user_id = lms.value("select id from auth_user where username = ?", name)
    page = f"/admin/auth/user/{user_id}/password/"
    assert browser.get(page).status_code == 200
    before = browser.cookies["sessionid"]
    form = {
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        "password1": "pass-word-of-the-test",
        "password2": "pass-word-of-the-test",
    }
    browser.post(page, data=form, headers={"Referer": lms.url + page})
    assert browser.cookies["sessionid"] != before
    assert is_signed_in(browser)

    assert send_logout_token(lms, lms.application.logout_token(name)).status_code == 200

    assert not is_signed_in(browser)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 2000 + b"]" * 2000,
        b'{"preferred_username": "\\ud800", "iat": 1700000000}',
        b'{"preferred_username": "\\u0000", "iat": 1700000000}',
        b'{"preferred_username": "ada", "iat": Infinity}',
    ],
    ids=["nested", "half a pair", "NUL", "infinite"],
)
def test_a_jwt_cookie_with_odd_claims_is_like_no_cookie(lms: Lms, payload: bytes) -> None:
    browser = lms.browser()
    cookie = f"e30.{urlsafe_b64encode(payload).decode().rstrip('=')}"
    browser.cookies.set("edx-jwt-cookie-header-payload", cookie)

    assert browser.get("/heartbeat").status_code == 200


def test_a_learner_can_sign_in_immediately_after_a_sign_out(lms: Lms, name: str) -> None:
    """The sign-in may be in the same second as the sign-out, and the clock of the server that
    received the sign-out may be ahead."""
    browser = lms.sign_in(name)
    send_logout_token(lms, lms.application.logout_token(name))
    ahead = datetime.now(UTC) + timedelta(hours=1)
    set_time = "update usher_lms_learnersession set ended = ? where ended is not null"
    lms.execute(set_time, f"{ahead:%Y-%m-%d %H:%M:%S}")

    browser.get("/auth/login/mitxpro-oauth2/", params={"next": "/api/user/v1/me"})

    assert is_signed_in(browser)
    assert "edx-jwt-cookie-header-payload" in browser.cookies


def test_a_sign_out_from_the_application_is_not_sent_back_to_it(lms: Lms, name: str) -> None:
    lms.sign_in(name)
    assert send_logout_token(lms, lms.application.logout_token(name)).status_code == 200

    query = "select 1 from usher_lms_message where type = 'signed-out' and username = ?"
    assert lms.execute(query, name) == []


def test_a_logout_token_is_accepted_once(lms: Lms, name: str) -> None:
    token = lms.application.logout_token(name)
    assert send_logout_token(lms, token).status_code == 200
    browser = lms.sign_in(name)

    second_answer = send_logout_token(lms, token)

    assert second_answer.status_code == 400
    assert "used before" in second_answer.json()["error_description"]
    assert is_signed_in(browser)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://somebody.else"},
        {"aud": "another-client"},
        {"iat": -3600},
        {"iat": +3600},
        {"iat": "yesterday"},
        {"iat": "1700000000"},
        {"exp": -3600},
        {"jti": None},
        {"jti": "x" * 65},
        {"jti": "half a pair \ud800"},
        {"iat": float("inf")},
        {"iat": float("nan")},
        {"exp": float("inf")},
        {"events": None},
        {"events": {}},
        {"events": [EVENT]},
        {"events": {EVENT: "yes"}},
        {"nonce": "n"},
        {"sub": None},
        {"sub": "half a pair \ud800"},
        {"sub": "NUL \0"},
        {"iss": None},
    ],
    ids=ascii,
)
def test_logout_tokens_with_invalid_claims_are_refused(
    lms: Lms, name: str, changes: dict[str, Any]
) -> None:
    """changes: claims to change. Numbers in ``iat`` and ``exp`` are seconds from now."""
    browser = lms.sign_in(name)
    for claim in ("iat", "exp"):
        if isinstance(changes.get(claim), int):
            changes = {**changes, claim: int(time.time()) + changes[claim]}

    answer = send_logout_token(lms, lms.application.logout_token(name, **changes))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert is_signed_in(browser)


def test_logout_tokens_with_another_signature_are_refused(lms: Lms, name: str) -> None:
    browser = lms.sign_in(name)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = lms.application.logout_token(name, key=stranger)
    unsigned = forged.rsplit(".", 1)[0] + "."
    key_requests = lms.application.key_requests

    for token in (forged, unsigned, "", "nonsense", "a.b.c", "x" * 20_000, "é" * 50):
        assert send_logout_token(lms, token).status_code == 400
    assert is_signed_in(browser)
    # The LMS does not request the application's keys for each token of a stranger: it requests them
    # once, and again after 30 seconds.
    for _ in range(20):
        send_logout_token(lms, forged)
    assert lms.application.key_requests <= key_requests + 2


def test_a_logout_token_is_answered_with_503_while_the_application_s_keys_are_missing(
    lms: Lms, name: str
) -> None:
    """The LMS answers 503, so the application sends the message again. After a 400 the application
    would drop the message."""
    browser = lms.sign_in(name)
    statement = "update usher_lms_connectedapplication set jwks_url = ? where jwks_url = ?"
    right, wrong = f"{lms.application.url}/jwks.json", f"{lms.application.url}/nothing/"
    lms.execute(statement, wrong, right)
    try:
        assert send_logout_token(lms, lms.application.logout_token(name)).status_code == 503
    finally:
        lms.execute(statement, right, wrong)
    assert is_signed_in(browser)
    assert send_logout_token(lms, lms.application.logout_token(name)).status_code == 200
    assert not is_signed_in(browser)


def test_unreachable_keys_are_not_requested_at_every_message(lms: Lms) -> None:
    """Anybody can send tokens. If the application is down or its answer never ends, the LMS must
    not wait for the keys at each token."""
    script = (
        "import socket, threading\n"
        "from usher.lms.signout import tokens\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "connections = []\n"
        "def serve():\n"
        "    while True:\n"
        "        peer = listener.accept()[0]\n"
        "        connections.append(peer)\n"
        "        peer.recv(9999)\n"
        "        peer.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 99999999\\r\\n\\r\\n')\n"
        "        try:\n"
        "            peer.sendall(b'x' * 9999999)\n"
        "        except OSError:\n"
        "            pass\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        tokens._keys('http://127.0.0.1:%d/' % listener.getsockname()[1])\n"
        "    except tokens.TokenRefused as error:\n"
        "        print(type(error).__name__)\n"
        "print(len(connections))\n"
    )
    result = lms.run("shell", "-c", f"exec({script!r}, {{}})")
    # All three calls failed, with one request.
    assert result.stdout.split()[-4:] == [*["KeysUnavailable"] * 3, "1"], result.stderr


def test_a_logout_token_for_an_unconnected_backend_is_refused(lms: Lms, name: str) -> None:
    token = lms.application.logout_token(name)
    assert send_logout_token(lms, token, backend="xpro-oauth2").status_code == 404


def test_a_logout_token_can_not_be_sent_by_get(lms: Lms) -> None:
    assert httpx.get(f"{lms.url}/usher/backchannel-logout/mitxpro-oauth2/").status_code == 405


def test_the_application_is_notified_of_a_sign_out_in_the_lms(lms: Lms, name: str) -> None:
    browser = lms.sign_in(name)

    browser.get("/logout")

    def new_messages() -> list[Any]:
        posted = [each for each in lms.application.received if each.path == "/signed-out/"]
        return [each for each in posted if each.json["username"] == name]

    message = wait_for(new_messages)[0]
    headers = {key.lower(): value for key, value in message.headers.items()}
    event_id = headers[signatures.HEADER_EVENT_ID.lower()]
    assert set(message.json) == {"event_id", "username", "at"}
    assert message.json["event_id"] == event_id
    assert signatures.verify(
        WEBHOOK_SECRET,
        headers[signatures.HEADER_SIGNATURE.lower()],
        timestamp=int(headers[signatures.HEADER_TIMESTAMP.lower()]),
        event_id=event_id,
        body=message.body,
        now=time.time(),
    )
    assert not is_signed_in(browser)
