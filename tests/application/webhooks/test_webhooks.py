"""Signed messages of the LMS are processed once. Forged, old and malformed messages are refused."""

import json
import time
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.application.conftest import make_learner
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.metrics.models import MetricValue
from usher.application.metrics.recorder import recorder
from usher.application.records.models import Certificate, Grade
from usher.application.runs.services import ensure_run
from usher.application.webhooks import services
from usher.application.webhooks.models import ReceivedEvent
from usher.contract import metrics, signatures
from usher.contract.paths import ApplicationPath

SECRET = "a-webhook-secret-of-some-length"
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def send(transactional_db, settings):
    """A function that sends a signed message, as the LMS does."""
    settings.USHER_WEBHOOK_SECRET = SECRET

    def send(body, event_id="e1", at=None, secret=SECRET, **headers):
        """body: sent as JSON; bytes are sent unchanged. at: when the message was sent, in seconds
        since 1970; now by default. headers: replace the signed headers."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = int(time.time()) if at is None else at
        signature = signatures.sign(secret, timestamp=at, event_id=event_id, body=content)
        all_headers = {
            signatures.HEADER_EVENT_ID: event_id,
            signatures.HEADER_TIMESTAMP: str(at),
            signatures.HEADER_SIGNATURE: signature,
        } | headers
        return Client().post(
            ApplicationPath.WEBHOOKS, content, content_type="application/json", headers=all_headers
        )

    return send


@pytest.fixture
def account(transactional_db):
    """The LMS account of a learner with an enrollment. Neither of the two is due."""
    user = make_learner()
    account = ensure_account(user)
    enroll(user, ensure_run(DEMO))
    LmsAccount.objects.set_work(due_at=None)
    Enrollment.objects.set_work(due_at=None)
    return account


def message(kind, account):
    """A message about this account and its enrollment. As in the LMS, the username may be in
    another case than in the application."""
    return {"type": kind, "data": {"username": account.username.upper(), "course_id": DEMO}}


def test_messages_make_rows_due(send, account):
    assert send(message("enrollment.changed", account)).json() == {"taken": True}
    assert Enrollment.objects.get().due_at is not None
    send(message("account.changed", account), event_id="e2")
    assert LmsAccount.objects.get().due_at is not None
    send(message("grade.changed", account), event_id="e3")
    send(message("certificate.changed", account), event_id="e4")
    assert Grade.objects.get().due_at is not None
    assert Certificate.objects.get().due_at is not None


def test_a_message_makes_a_refused_row_due_and_keeps_the_refusal(send, account):
    refusal = {
        "refused_at": timezone.now(),
        "attempts": 3,
        "error_class": "rejected",
        "error_code": "enrollment-closed",
        "error_message": "Enrollment is closed.",
    }
    Enrollment.objects.set_work(**refusal)
    LmsAccount.objects.update(created_in_lms_at=None)
    LmsAccount.objects.set_work(**refusal)
    send(message("enrollment.changed", account))
    send(message("account.changed", account), event_id="e2")
    row = Enrollment.objects.get()
    assert row.due_at is not None
    assert row.refused_at is not None
    assert (row.attempts, row.error_code) == (3, "enrollment-closed")
    # The LMS can't have changed an account that was never created.
    assert LmsAccount.objects.get().due_at is None


def test_a_learner_is_searched_with_the_index_of_lms_usernames(send, account):
    with CaptureQueriesContext(connection) as queries:
        for number, kind in enumerate(("account", "enrollment", "grade", "certificate")):
            send(message(f"{kind}.changed", account), event_id=f"i{number}")
    statements = [query["sql"] for query in queries if 'LOWER("usher_lmsaccount"' in query["sql"]]
    assert len(statements) == 4
    # The index is on LOWER(username), so a lookup by UPPER(username) could not use it.
    assert not any("UPPER(" in query["sql"].upper() for query in queries)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")  # small tables would be scanned as a whole
            cursor.execute(f"EXPLAIN {statements[0]}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {statements[0]}")
        plan = str(cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = on")
    assert "lms_username_unique" in plan


def test_the_time_from_the_change_to_the_message_is_measured(send, account):
    recorder.forget()
    changed_at = timezone.now() - timedelta(seconds=40)
    for _ in range(2):
        send(message("enrollment.changed", account) | {"at": changed_at.isoformat()})
    for number, malformed_time in enumerate(("", 7, "tomorrow", [], "9999-99-99")):
        body = message("account.changed", account) | {"at": malformed_time}
        assert send(body, event_id=f"odd{number}").status_code == 200
    recorder.flush()
    values = {(row.name, row.labels, row.part): row.value for row in MetricValue.objects.all()}
    # Of the messages, one was repeated, and five have a malformed time, which isn't measured.
    assert values[metrics.WEBHOOK_LAG.name, "[]", "60.0"] == 1
    assert 40 <= values[metrics.WEBHOOK_LAG.name, "[]", "sum"] < 60
    assert values[metrics.WEBHOOKS.name, '["accepted"]', ""] == 6
    assert values[metrics.WEBHOOKS.name, '["repeated"]', ""] == 1


def test_a_repeated_message_is_not_processed(send, account):
    assert send(message("enrollment.changed", account)).json() == {"taken": True}
    Enrollment.objects.set_work(due_at=None)
    assert send(message("enrollment.changed", account)).json() == {"taken": False}
    assert Enrollment.objects.get().due_at is None


def test_a_message_whose_processing_fails_is_sent_again(send, account, monkeypatch):
    """A conflict in the database must not count as a message that was processed before."""

    def fail(_username, _course_key):
        raise IntegrityError("another process created the row")

    with monkeypatch.context() as patched:
        patched.setitem(services._HANDLERS, "enrollment.changed", fail)
        with pytest.raises(IntegrityError):  # answered with 500
            send(message("enrollment.changed", account))
    assert send(message("enrollment.changed", account)).json() == {"taken": True}
    assert Enrollment.objects.get().due_at is not None


def test_forged_outdated_and_unsigned_messages_are_refused(send, account):
    body = message("enrollment.changed", account)
    assert send(body, secret="another").status_code == 401
    assert send(body, at=int(time.time()) - 3600).status_code == 401
    assert send(body, at=int(time.time()) + 3600).status_code == 401
    assert send(body, **{signatures.HEADER_SIGNATURE: "v1=00"}).status_code == 401
    assert send(body, **{signatures.HEADER_TIMESTAMP: "soon"}).status_code == 401
    assert send(body, **{signatures.HEADER_EVENT_ID: "e9"}).status_code == 401
    unsigned = Client().post(ApplicationPath.WEBHOOKS, b"{}", content_type="application/json")
    assert unsigned.status_code == 401
    assert Client().get(ApplicationPath.WEBHOOKS).status_code == 405
    assert not ReceivedEvent.objects.exists()
    assert Enrollment.objects.get().due_at is None


def test_messages_are_refused_if_no_secret_is_configured(send, account, settings):
    settings.USHER_WEBHOOK_SECRET = ""
    assert send(message("enrollment.changed", account), secret="").status_code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type": "x"}', b'{"type": 1, "data": []}'])
def test_a_message_without_type_or_data_is_refused(send, body):
    assert send(body).status_code == 400


def test_messages_of_unknown_types_or_about_unknown_learners_are_accepted(send):
    assert send({"type": "x", "data": {}}).status_code == 200
    unknown_learner = {
        "type": "enrollment.changed",
        "data": {"username": "nobody", "course_id": "x"},
    }
    assert send(unknown_learner, event_id="e2").status_code == 200
    malformed_key = {"type": "course_run.changed", "data": {"course_id": "not-a-key"}}
    assert send(malformed_key, event_id="e3").status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
JSON_WITH_TYPE_AND_DATA = st.fixed_dictionaries(
    {"type": st.sampled_from(["enrollment.changed", "account.changed", "grade.changed", "x"])},
    optional={
        "data": st.fixed_dictionaries({}, optional={"username": JSON, "course_id": JSON}) | JSON
    },
)


@given(
    body=st.one_of(st.binary(max_size=100), JSON, JSON_WITH_TYPE_AND_DATA),
    event_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
    at=st.one_of(st.none(), st.integers(-(10**20), 10**20)),
)
@hypothesis_settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_generated_messages_are_answered_without_a_5xx(send, body, event_id, at):
    assert send(body, event_id=event_id, at=at).status_code < 500


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"type": "x", "data": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
        b'{"type": "account.changed", "data": {"username": "\\ud800"}}',
        b'{"type": "\\udfff", "data": {}}',
        b'{"type": "account.changed", "data": {"username": "a\\u0000b"}}',
        b'{"type": "grade.changed", "data": {"username": "a", "course_id": ["x"]}}',
        b'{"type": "grade.changed", "data": {"username": {"a": 1}}}',
        b'{"type": "account.changed", "data": {"username": "' + b"x" * 300 + b'"}}',
        b'{"type": 1' + b"0" * 5000 + b', "data": {}}',
        b"\xff\xfe{",
    ],
)
def test_signed_messages_with_malformed_json_or_values_are_refused(send, body):
    assert send(body).status_code == 400
    assert not ReceivedEvent.objects.exists()


@pytest.mark.parametrize("event_id", ["1.2", "a b", "a\u00e9", "x" * 101, "", "."])
def test_an_event_id_that_is_empty_too_long_or_has_other_characters_is_refused(send, event_id):
    assert send({"type": "x", "data": {}}, event_id=event_id).status_code == 401


def test_a_signature_is_refused_if_the_event_id_contains_a_dot():
    """In the signed text, a dot separates the event id and the body. Two messages whose ids and
    bodies are split at different dots therefore have the same signature."""
    times = {"timestamp": 1, "now": 1.0}
    signature = signatures.sign(SECRET, timestamp=1, event_id="a", body=b"b.c")
    assert signatures.verify(SECRET, signature, event_id="a", body=b"b.c", **times)
    assert signatures.sign(SECRET, timestamp=1, event_id="a.b", body=b"c") == signature
    assert not signatures.verify(SECRET, signature, event_id="a.b", body=b"c", **times)


def test_a_body_over_the_size_limit_is_refused(send):
    answer = send(b"x" * 70_000)
    assert answer.status_code == 413


def test_forged_messages_are_limited(send):
    cache.clear()
    # A valid message, so its address counts as the LMS's.
    assert send({"type": "x", "data": {}}).status_code == 200
    phone = Client(REMOTE_ADDR="203.0.113.9")
    statuses = [
        phone.post(ApplicationPath.WEBHOOKS, b"{}", content_type="application/json").status_code
        for _ in range(250)  # 240 failures a minute are allowed
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert send({"type": "x", "data": {}}, event_id="e2").status_code == 200
    cache.clear()
