"""Applications that answer with anything: they reach no other learner's account, and stop nothing
in the LMS."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from typing import Any

import httpx
import pytest

from tests.lms.conftest import TOKEN, Lms, description, person
from tests.lms.test_batch import ACCOUNTS, error_code, post, post_one
from tests.lms.test_sign_in import USER, last_answer
from usher.contract.provisioning import Description, DescriptionError


def sign_in_with(lms: Lms, answer: Any) -> httpx.Response:
    """The page at the end of a sign-in. answer: of users/me."""
    lms.application.signed_in_learner = answer
    with lms.browser() as browser:
        return browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login&next=/api/user/v1/me")


@pytest.mark.parametrize(
    ("username", "answer"),
    [
        ("None", {"username": None, "email": "x@x.example"}),
        ("None", {"email": "x@x.example"}),
        ("True", {"username": True, "email": "x@x.example"}),
        ("41", {"username": 41, "email": "x@x.example"}),
    ],
    ids=["null", "missing", "true", "number"],
)
def test_an_answer_without_a_username_signs_in_to_no_account(
    lms: Lms, username: str, answer: dict[str, Any]
) -> None:
    """python-social-auth makes a text of any value. That text may be another learner's username."""
    assert last_answer(lms.sign_in(username)).json() == {"username": username}

    page = sign_in_with(lms, answer)

    assert page.url.path == "/usher/stopped/"


def test_a_learner_without_a_username_registers_no_account(lms: Lms, name: str) -> None:
    """The registration API would link the account to the learners without a username."""
    form = {
        "username": "None",
        "email": f"{name}@x.example",
        "name": name,
        "provider": "mitxpro-oauth2",
        "access_token": lms.application.issue_token({"username": None, "email": "x@x.example"}),
        "honor_code": "true",
        "country": "GB",
    }
    lms.execute("delete from social_auth_usersocialauth where uid = 'None'")
    lms.execute("update auth_user set username = ? where username = 'None'", f"{name}_old")
    with lms.browser() as browser:
        answer = browser.post("/user_api/v1/account/registration/", data=form)

    assert answer.status_code >= 400
    assert lms.execute(USER, "None") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "half a pair \ud800"},
        {"username": "NUL \0"},
        {"username": "u" * 100_000},
        {"username": ["a"]},
        {"email": "\ud800@x.example"},
        {"email": "x" * 10_000 + "@x.example"},
        {"email": ["a@x.example"]},
        {"name": "half a pair \ud800"},
        {"name": "NUL \0"},
    ],
    ids=lambda changes: ascii(changes)[:30],
)
def test_values_that_can_not_be_stored_stop_the_sign_in(
    lms: Lms, name: str, changes: dict[str, Any]
) -> None:
    page = sign_in_with(lms, {"username": name, **person(name), **changes})

    assert page.url.path == "/usher/stopped/"
    assert len(page.text) < 20_000
    assert lms.execute(USER, name) == []


@pytest.mark.parametrize("answer", [[1], "text", 5, True], ids=ascii)
def test_an_answer_that_is_no_object_stops_the_sign_in(
    lms: Lms, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(lms.application, "issue_code", lambda: "code")
    monkeypatch.setitem(lms.application.learner_of_code, "code", answer)

    page = sign_in_with(lms, {})

    assert (page.status_code, page.url.path) == (502, "/usher/stopped/")


def test_an_id_that_no_answer_can_repeat_is_refused(lms: Lms, name: str) -> None:
    item = {"id": "\ud800", "username": name, **person(name)}
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    body = json.dumps({"items": [item]})

    answer = httpx.post(
        lms.url + ACCOUNTS, content=body, headers=headers, timeout=60, trust_env=False
    )

    assert answer.status_code == 400
    assert lms.execute(USER, name) == []


def test_an_address_with_other_characters_is_another_address(lms: Lms, name: str) -> None:
    """Without regard to case, ``ß`` and ``ss`` are the same."""
    post(lms, ACCOUNTS, [{"id": 1, "username": name, "email": f"strasse{name}@x.example"}])

    result = post_one(lms, ACCOUNTS, username=name, email=f"straße{name}@x.example")

    assert error_code(result) == "validation-error"


@pytest.mark.parametrize("field", ["username", "email"])
def test_retired_names_and_addresses_are_taken_in_any_case(lms: Lms, name: str, field: str) -> None:
    lms.execute(
        "insert into user_api_userretirementstatus (created, modified, user_id, original_username, "
        "original_email, original_name, retired_username, retired_email, current_state_id, "
        "last_state_id, responses) "
        "values ('2026-01-01', '2026-01-01', ?, ?, ?, '', '', '', 1, 1, '')",
        10**9 + hash(name) % 10**6,
        name,
        f"{name}@x.example",
    )
    values = {"username": f"{name}_b", "email": f"{name}_b@x.example"}
    values[field] = {"username": name.upper(), "email": f"{name.upper()}@x.example"}[field]

    try:
        result = post_one(lms, ACCOUNTS, **values)
    finally:
        lms.execute("delete from user_api_userretirementstatus where original_username = ?", name)

    assert error_code(result) == f"duplicate-{field}"


@pytest.mark.parametrize(
    "claims",
    [b"[" * 3000 + b"]" * 3000, rb'{"preferred_username": "\ud800", "iat": 1}'],
    ids=["deep", "surrogate"],
)
def test_a_malformed_cookie_is_ignored(lms: Lms, claims: bytes) -> None:
    payload = urlsafe_b64encode(claims).decode().rstrip("=")
    cookies = {"edx-jwt-cookie-header-payload": f"h.{payload}"}

    answer = httpx.get(f"{lms.url}/login", cookies=cookies, timeout=60, trust_env=False)

    assert answer.status_code < 500


#: Serves one answer to each request. If ``rest`` is not empty, it is sent again and again; a single
#: byte ten times a second.
SERVER = """
import socket, threading, time
def serve(head, rest=b""):
    listener = socket.create_server(("127.0.0.1", 0))
    def answer(peer):
        peer.recv(65536)
        try:
            peer.sendall(head)
            end = time.monotonic() + 30
            while rest and time.monotonic() < end:
                peer.sendall(rest)
                time.sleep(0 if len(rest) > 1 else 0.1)
        except OSError:
            pass
        peer.close()
    def accept():
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return "http://127.0.0.1:%d/" % listener.getsockname()[1]
"""
#: Makes a message for a webhook.
MESSAGE = """
from usher.lms.events import sender
from usher.lms.events.models import Message
from usher.lms.connections.models import ConnectedApplication
from django.utils import timezone
message = Message(application=ConnectedApplication(webhook_secret='s' * 40),
    type='account.changed', username='a', created=timezone.now())
"""
#: Headers of redirects whose body never ends, or whose address can't be parsed.
REDIRECTS = (
    b"HTTP/1.1 302 Found\r\nLocation: /there/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n",
)


def run_script(lms: Lms, script: str) -> list[str]:
    """Runs the script in the LMS, and returns the lines it printed that begin with ``=``."""
    result = lms.run("shell", "-c", f"exec({SERVER + script!r}, {{}})")
    assert result.returncode == 0, result.stderr
    return [line[1:] for line in result.stdout.splitlines() if line.startswith("=")]


@pytest.mark.parametrize("head", REDIRECTS, ids=["endless", "address", "bytes"])
def test_a_webhook_s_redirect_is_neither_read_nor_parsed(lms: Lms, head: bytes) -> None:
    script = MESSAGE + (
        f"url = serve({head!r}, b'x' * 65536)\n"
        "started = time.monotonic()\n"
        "with sender.Session() as session:\n"
        "    print('=' + sender._post(session, message, url), time.monotonic() - started < 10)\n"
    )
    assert run_script(lms, script) == ["answered 302 True"]


@pytest.mark.parametrize("address", ["", "http://shop.example/", "https://shop.example/"])
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Long: "], ids=["status", "headers"])
def test_a_webhook_s_answer_that_arrives_byte_by_byte_is_no_answer(
    lms: Lms, head: bytes, address: str
) -> None:
    """address: of the webhook if the answer is a proxy's; '' if it is the application's."""
    script = MESSAGE + (
        "from usher.lms import outgoing\n"
        f"url, address = serve({head!r}, b'x'), {address!r}\n"
        "outgoing.ANSWER_SECONDS, seconds = 1.0, outgoing.ANSWER_SECONDS\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    with sender.Session() as session:\n"
        "        session.proxies = {'http': url, 'https': url} if address else {}\n"
        "        error = sender._post(session, message, address or url)\n"
        "finally:\n"
        "    outgoing.ANSWER_SECONDS = seconds\n"
        "print('=' + error[:9], time.monotonic() - started < 10)\n"
    )
    assert run_script(lms, script) == ["no answer True"]


def test_keys_that_arrive_byte_by_byte_are_unavailable(lms: Lms) -> None:
    # The script sets a deadline of one second, and restores the real one at the end.
    script = (
        "from usher.lms import outgoing\n"
        "from usher.lms.signout import tokens\n"
        "url = serve(b'HTTP/1.1 200 OK\\r\\n\\r\\n', b'x')\n"
        "outgoing.ANSWER_SECONDS, seconds = 1.0, outgoing.ANSWER_SECONDS\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    print('=', tokens._keys(url))\n"
        "except tokens.KeysUnavailable:\n"
        "    print('=unavailable', time.monotonic() - started < 10)\n"
        "finally:\n"
        "    outgoing.ANSWER_SECONDS = seconds\n"
    )
    assert run_script(lms, script) == ["unavailable True"]


def test_a_malformed_webhook_address_is_no_answer(lms: Lms) -> None:
    """An error of one application's address must not stop the messages to the others."""
    script = MESSAGE + (
        "for url in ('http://' + 'a' * 70 + '.example/', 'http://a..b/', 'http://[::1/', 'x:'):\n"
        "    with sender.Session() as session:\n"
        "        print('=' + sender._post(session, message, url)[:9])\n"
    )
    assert run_script(lms, script) == ["no answer"] * 4


def test_a_slow_application_does_not_delay_the_messages_to_another(lms: Lms, name: str) -> None:
    script = (
        "from datetime import timedelta\n"
        "from django.db import transaction\n"
        "from django.utils import timezone\n"
        "from usher.lms.connections.models import ConnectedApplication as Connected\n"
        "from usher.lms.events import sender\n"
        "from usher.lms.events.models import Message\n"
        "posted = []\n"
        "def post(session, message, url):\n"
        "    posted.append(message.application.name)\n"
        "    time.sleep(0.1 if message.application.name == 'slow' else 0)\n"
        "    return ''\n"
        "original = sender._post\n"
        "sender._post, sender.SECONDS_A_TURN = post, 0.25\n"
        "try:\n"
        "    with transaction.atomic():\n"
        "        old = timezone.now() - timedelta(days=1)\n"
        "        for number, app in enumerate(['slow'] * 9 + ['quick']):\n"
        "            application, _ = Connected.objects.get_or_create(name=app, backend=app,\n"
        "                oauth_client_id=app, webhook_url='http://x/', webhook_secret='s')\n"
        "            Message.objects.create(application=application, type='account.changed',\n"
        "                username='a', next_attempt_at=old + timedelta(seconds=number))\n"
        "        sender.send_due()\n"
        "        transaction.set_rollback(True)\n"
        "finally:\n"
        "    sender._post, sender.SECONDS_A_TURN = original, 5.0\n"
        "print('=', posted.count('slow'), posted.index('quick'))\n"
    )
    assert run_script(lms, script) == [" 9 3"]


def test_after_any_error_a_change_starts_the_sender_again(lms: Lms) -> None:
    script = (
        "from usher.lms.events import sender, wake\n"
        "calls = []\n"
        "def fail():\n"
        "    calls.append(1)\n"
        "    raise ValueError\n"
        "original = sender.send_due, threading.excepthook\n"
        "sender.send_due, threading.excepthook = fail, lambda arguments: None\n"
        "try:\n"
        "    for _ in range(2):\n"
        "        wake.wake_sender()\n"
        "        wake.wait_for_sender()\n"
        "finally:\n"
        "    sender.send_due, threading.excepthook = original\n"
        "print('=', len(calls))\n"
    )
    assert run_script(lms, script) == [" 2"]


@pytest.mark.parametrize("head", REDIRECTS, ids=["endless", "address", "bytes"])
def test_a_redirect_in_place_of_keys_is_not_read(lms: Lms, head: bytes) -> None:
    script = (
        "from usher.lms.signout import tokens\n"
        "started = time.monotonic()\n"
        "try:\n"
        f"    print('=', tokens._keys(serve({head!r}, b'x' * 65536)))\n"
        "except tokens.KeysUnavailable:\n"
        "    print('=unavailable', time.monotonic() - started < 10)\n"
    )
    assert run_script(lms, script) == ["unavailable True"]


def test_an_endless_answer_of_a_token_endpoint_does_not_stop_the_report(lms: Lms) -> None:
    script = (
        "from types import SimpleNamespace as Row\n"
        "import json\n"
        "from usher.lms.reporting import records\n"
        "url = serve(b'HTTP/1.1 400 Bad\\r\\n\\r\\n', b'x' * 65536)\n"
        "settings = json.dumps({'ACCESS_TOKEN_URL': url})\n"
        "row = Row(other_settings=settings, backend_name='b', key='k', secret='s')\n"
        "started = time.monotonic()\n"
        "probe = records._probe_token_endpoint(row)\n"
        "print('=', probe['status'], time.monotonic() - started < 10)\n"
    )
    assert run_script(lms, script) == [" 400 True"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("usher_link", "--username", b"\xff", "--application", "campus"),
        ("usher_link", "--username", "a", "--application", b"\xff"),
        ("usher_move_links", "--from", b"\xff", "--to", "mitxpro-oauth2"),
    ],
    ids=["username", "application", "backend"],
)
def test_a_command_refuses_a_name_that_is_not_utf_8(lms: Lms, arguments: tuple[Any, ...]) -> None:
    command = (sys.executable, "manage.py", *arguments)
    result = subprocess.run(command, cwd=lms.folder, capture_output=True, check=False)

    assert result.returncode != 0
    assert b"is not UTF-8 text" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    "changes",
    [{"issuer": "\ud800"}, {"client_id": "NUL \0"}, {"oauth_redirect_uris": ["\0"]}],
    ids=ascii,
)
def test_a_description_has_only_texts_that_can_be_stored(lms: Lms, changes: dict[str, Any]) -> None:
    text = json.dumps(description(lms.application.description(**changes)))

    with pytest.raises(DescriptionError, match=next(iter(changes))):
        Description.from_json(text)


def test_a_deeply_nested_description_is_refused() -> None:
    with pytest.raises(DescriptionError):
        Description.from_json("[" * 100_000)
