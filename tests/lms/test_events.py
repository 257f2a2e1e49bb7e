"""Webhooks of the LMS: which changes send a webhook, the signature, and retries."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import pytest

from tests.lms.application import WEBHOOK_SECRET
from tests.lms.conftest import DEMO, E2E, Lms, account, wait_for
from tests.lms.test_batch import ACCOUNTS, enroll, post
from usher.contract import signatures


def webhooks_about(lms: Lms, username: str) -> list[dict[str, Any]]:
    """The bodies of the webhooks about this learner."""
    posted = [each.json for each in lms.application.received if each.path == "/webhooks/"]
    return [each for each in posted if each["data"]["username"] == username]


def event_types(lms: Lms, username: str) -> list[str]:
    return [each["type"] for each in webhooks_about(lms, username)]


def change_address(lms: Lms, username: str) -> None:
    """Changes the learner's e-mail address, as in the LMS's admin."""
    script = (
        "from django.contrib.auth import get_user_model as g; "
        f"u = g().objects.get(username={username!r}); u.email = 'moved-' + u.email; u.save()"
    )
    assert lms.run("shell", "-c", script).returncode == 0


def enroll_publicly(lms: Lms, username: str, course_id: str = DEMO) -> None:
    """Enrolls the learner through the public API."""
    body = {"user": username, "mode": "audit", "course_details": {"course_id": course_id}}
    with lms.api() as api:
        assert api.post("/api/enrollment/v1/enrollment", json=body).status_code == 200


def test_a_new_account_sends_one_event(lms: Lms, name: str) -> None:
    lms.sign_in(name)

    wait_for(lambda: event_types(lms, name))
    assert event_types(lms, name) == ["account.changed"]


def test_a_command_sends_its_messages_before_it_ends(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name)])
    lms.execute("delete from social_auth_usersocialauth where uid = ?", name)
    command = ("usher_link", "--username", name, "--application", "campus")
    # Not ``lms.run``, whose process continues after the command.
    subprocess.run([sys.executable, "manage.py", *command], cwd=lms.folder, check=True)
    assert event_types(lms, name) == ["account.changed"]


def test_the_application_gets_no_event_for_its_own_request(lms: Lms, name: str) -> None:
    """The LMS logs the changes that the batch API requested, and sends no events for them. It sends
    events for other enrollments, such as those by invitation or through the public API."""
    invite = (
        "insert into student_courseenrollmentallowed (email, course_id, auto_enroll, created) "
        "values (?, ?, 1, '2026-01-01')"
    )
    lms.execute(invite, f"{name}@learners.example", E2E)
    post(lms, ACCOUNTS, [account(name)])
    enroll(lms, name, mode="audit")
    enroll_publicly(lms, name, E2E)
    wait_for(lambda: event_types(lms, name))

    # The third column is 1 for changes that are only logged.
    select_messages = (
        "select type, course_id, next_attempt_at is null and delivered_at is null "
        "from usher_lms_message where username = ? order by id"
    )
    assert lms.execute(select_messages, name)[:2] == [
        ("account.changed", "", 1),
        ("enrollment.changed", DEMO, 1),
    ]
    messages = webhooks_about(lms, name)
    assert {each["data"].get("course_id") for each in messages} == {E2E}


def test_messages_are_signed(lms: Lms, name: str) -> None:
    lms.sign_in(name)
    enroll_publicly(lms, name)
    wait_for(lambda: "enrollment.changed" in event_types(lms, name))

    webhooks = [each for each in lms.application.received if each.path == "/webhooks/"]
    messages = [each for each in webhooks if each.json["data"]["username"] == name]
    ids = set()
    for message in messages:
        headers = {key.lower(): value for key, value in message.headers.items()}
        event_id = headers[signatures.HEADER_EVENT_ID.lower()]
        ids.add(event_id)
        assert signatures.verify(
            WEBHOOK_SECRET,
            headers[signatures.HEADER_SIGNATURE.lower()],
            timestamp=int(headers[signatures.HEADER_TIMESTAMP.lower()]),
            event_id=event_id,
            body=message.body,
            now=time.time(),
        )
    assert len(ids) == len(messages)  # each message has its own id
    sent_at = datetime.fromisoformat(messages[-1].json["at"]).timestamp()
    assert sent_at == pytest.approx(time.time(), abs=600)
    assert messages[-1].json == {
        "at": messages[-1].json["at"],
        "type": "enrollment.changed",
        "data": {"username": name, "course_id": DEMO},
    }


def test_a_change_in_the_lms_sends_an_event(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name)])

    change_address(lms, name)

    wait_for(lambda: event_types(lms, name) == ["account.changed"])


@pytest.mark.parametrize(
    ("change", "event_type"),
    [
        ("certificates.services import award; award(u, key)", "certificate.changed"),
        ("grades.services import record; record(u, key, percent=0.9)", "grade.changed"),
    ],
)
def test_certificates_and_grades_send_events(
    lms: Lms, name: str, change: str, event_type: str
) -> None:
    post(lms, ACCOUNTS, [account(name)])
    script = (
        "from django.contrib.auth.models import User; from opaque_keys.edx.keys import CourseKey; "
        f"u = User.objects.get(username={name!r}); key = CourseKey.from_string({DEMO!r}); "
        f"from usher.embedded.{change}"
    )
    assert lms.run("shell", "-c", script).returncode == 0

    wait_for(lambda: event_type in event_types(lms, name))
    message = next(each for each in webhooks_about(lms, name) if each["type"] == event_type)
    assert message["data"] == {"username": name, "course_id": DEMO}


def test_a_second_sign_in_is_not_logged_as_a_change(lms: Lms, name: str) -> None:
    lms.sign_in(name)
    wait_for(lambda: event_types(lms, name))
    before = lms.value("select count(*) from usher_lms_message where username = ?", name)

    lms.sign_in(name)

    assert lms.value("select count(*) from usher_lms_message where username = ?", name) == before


def test_learners_without_an_application_send_no_events(lms: Lms, name: str) -> None:
    script = (
        "from django.contrib.auth import get_user_model as g; from usher.lms import conf; "
        f"u = g().objects.create_user({name!r}, 'old-{name}@x.example', 'pw'); "
        "conf.platform().profile_model().objects.create(user=u, name='N'); "
        "u.email = 'new-' + u.email; u.save()"
    )
    assert lms.run("shell", "-c", script).returncode == 0

    assert lms.execute("select 1 from usher_lms_message where username = ?", name) == []


# The LMS does not follow redirects: they count as failures.
@pytest.mark.parametrize("status", [500, 302])
def test_events_for_an_application_that_is_down_are_sent_later(
    lms: Lms, name: str, status: int
) -> None:
    post(lms, ACCOUNTS, [account(name)])
    lms.application.webhook_status = status
    started = time.monotonic()
    try:
        enroll_publicly(lms, name)
        seconds_of_request = time.monotonic() - started
        select_state = (
            "select attempts, delivered_at, last_error from usher_lms_message "
            "where type = 'enrollment.changed' and username = ?"
        )
        wait_for(lambda: lms.value(select_state, name) > 0)  # the first attempt has failed
        _attempts, delivered_at, error = lms.execute(select_state, name)[0]
        assert (delivered_at, error) == (None, f"answered {status}")
    finally:
        lms.application.webhook_status = 200
    assert seconds_of_request < 10  # the LMS does not wait for all attempts before it answers
    before = len(webhooks_about(lms, name))

    # Makes the messages due. The LMS's own sender runs too, and may send them first.
    lms.execute(
        "update usher_lms_message set next_attempt_at = '2026-01-01 00:00:00' "
        "where next_attempt_at is not null and username = ?",
        name,
    )
    data = json.loads(lms.run("usher_send_events").stdout)

    assert data["failed"] == 0
    wait_for(lambda: all(delivered for _, delivered, _ in lms.execute(select_state, name)))
    assert len(webhooks_about(lms, name)) == before + len(lms.execute(select_state, name))


def test_old_messages_are_deleted(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name)])
    change_address(lms, name)
    state = "select delivered_at from usher_lms_message where username = ? order by id desc"
    wait_for(lambda: lms.value(state, name))
    lms.execute(
        "update usher_lms_message set created = '2020-01-01 00:00:00' where username = ?", name
    )

    assert json.loads(lms.run("usher_send_events").stdout)["forgotten"] >= 1
    assert lms.execute(state, name) == []


def test_event_ids_have_their_former_length_after_a_migration_back(lms: Lms, name: str) -> None:
    """The code of migration 0003 reads UUIDs: 32 digits in databases without a type for UUIDs."""
    post(lms, ACCOUNTS, [account(name)])
    length = "select length(event_id) from usher_lms_message where username = ?"
    assert lms.value(length, name) == 36
    try:
        assert lms.run("migrate", "usher_lms", "0003").returncode == 0
        assert lms.value(length, name) == 32
    finally:
        assert lms.run("migrate", "usher_lms").returncode == 0
