"""Accounts and enrollments of a batch are inserted together. Their rows and signals are the same as
if each item were sent in its own batch."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.dispatch import Signal

from tests.lms.conftest import DEMO, Lms, account
from tests.lms.test_batch import ACCOUNTS, ENROLLMENTS, post
from tests.lms.test_batch_transactions import run_script
from usher.lms import bulk, platform_enrollments, platform_receivers

#: A script that processes a batch. Its outcome has the results, the verbs of the SQL statements and
#: each signal or event that was sent, as [learner, name, …].
PROCESS_AND_RECORD_SIGNALS = """
from unittest import mock
from django.db.models.signals import pre_save
from django.test.utils import CaptureQueriesContext
from openedx_events.learning import signals as events
from social_django.models import UserSocialAuth

sent = []
def record(learner, *signal):
    sent.append([learner, *signal])
def on_user(signal, sender, instance, **kwargs):
    name = "pre_save" if signal is pre_save else "post_save"
    user = getattr(instance, "user", instance)
    record(user.username, name, sender.__name__, kwargs.get("created"), user.is_active)
def on_enrollment(signal, sender, instance, **kwargs):
    name = "pre_save" if signal is pre_save else "post_save"
    state = (instance.mode, instance.is_active) if name == "post_save" else ()
    record(instance.user.username, name, kwargs.get("created"), *state)
def on_event(signal, enrollment=None, user=None, **kwargs):
    state = [enrollment.mode, enrollment.is_active] if enrollment else []
    record((enrollment.user if enrollment else user).pii.username, signal.event_type, *state)
for model in (User, platform.profile_model(), platform.registration_model(), UserSocialAuth):
    for signal in (pre_save, post_save):
        signal.connect(on_user, sender=model, weak=False)
for signal in (pre_save, post_save):
    signal.connect(on_enrollment, sender=Enrollment, weak=False)
for event in (
    events.COURSE_ENROLLMENT_CREATED,
    events.COURSE_ENROLLMENT_CHANGED,
    events.STUDENT_REGISTRATION_COMPLETED,
):
    event.connect(on_event, weak=False)
form = AccountBatch if given["kind"] == "accounts" else EnrollmentBatch
returning = "can_return_rows_from_bulk_insert"
returns_keys = mock.patch.object(type(connection.features), returning, given["returns_keys"])
never_prunes = mock.patch("usher.lms.api.repetitions.prune")
with never_prunes, returns_keys, CaptureQueriesContext(connection) as statements:
    if given["in_one_batch"]:
        results = process_batch(form, given["items"], given["request_id"])
    else:
        results = [process_batch(form, [item])[0] for item in given["items"]]
# Queries for the current site are left out, because the site is cached.
verbs = [each["sql"].split()[0] for each in statements if "django_site" not in each["sql"]]
outcome = {"sent": sent, "results": results, "statements": verbs}
"""


def process(
    lms: Lms,
    kind: str,
    items: list[Any],
    *,
    in_one_batch: bool,
    returns_keys: bool = True,
    request_id: str = "",
) -> Any:
    """Processes a batch, or each item in its own batch. Returns the outcome of
    ``PROCESS_AND_RECORD_SIGNALS``. returns_keys: whether the database returns the keys of several
    inserted rows."""
    return run_script(
        lms,
        PROCESS_AND_RECORD_SIGNALS,
        kind=kind,
        items=items,
        in_one_batch=in_one_batch,
        returns_keys=returns_keys,
        request_id=request_id,
    )


def signals_by_learner(outcome: Any, prefix: str) -> dict[str, list[Any]]:
    """Learner's name without ``prefix`` → signals about the learner, in order."""
    signals: dict[str, list[Any]] = {}
    for learner, *signal in outcome["sent"]:
        signals.setdefault(learner.removeprefix(prefix), []).append(signal)
    return signals


def enrollments_of(lms: Lms, username: str) -> list[tuple[Any, ...]]:
    """(course key, mode, 1 if active else 0) of each enrollment of the learner."""
    return lms.execute(
        "select course_id, mode, e.is_active from student_courseenrollment e "
        "join auth_user u on u.id = e.user_id where username = ? order by course_id",
        username,
    )


def enrollment_items(names: list[str], mode: str | None = None) -> list[dict[str, Any]]:
    return [{"id": name, "username": name, "course_id": DEMO, "mode": mode} for name in names]


@pytest.mark.parametrize("returns_keys", [True, False], ids=["keys", "no keys"])
def test_accounts_of_one_batch_send_the_same_signals_as_one_by_one(
    lms: Lms, name: str, returns_keys: bool
) -> None:
    """This includes databases such as MySQL, which return no keys if several rows are inserted."""
    # The last account of each list is inactive.
    single_items = [account(f"{name}_a{number}", is_active=number != 2) for number in range(3)]
    batch_items = [account(f"{name}_b{number}", is_active=number != 2) for number in range(3)]
    one_by_one = process(lms, "accounts", single_items, in_one_batch=False)
    batched = process(lms, "accounts", batch_items, in_one_batch=True, returns_keys=returns_keys)

    assert {result["status"] for result in batched["results"]} == {"created"}
    assert signals_by_learner(batched, f"{name}_b") == signals_by_learner(one_by_one, f"{name}_a")
    for username in (item["username"] for item in batch_items):
        assert lms.value(
            "select count(*) from auth_user u join auth_userprofile p on p.user_id = u.id "
            "join auth_registration r on r.user_id = u.id "
            "join social_auth_usersocialauth s on s.user_id = u.id and s.uid = u.username "
            "where username = ?",
            username,
        ), username


@pytest.mark.parametrize("mode", [None, "verified"])
@pytest.mark.parametrize("returns_keys", [True, False], ids=["keys", "no keys"])
def test_enrollments_of_one_batch_send_the_same_signals_as_one_by_one(
    lms: Lms, name: str, mode: str | None, returns_keys: bool
) -> None:
    single_names, batch_names = [
        [f"{name}_{letter}{number}" for number in range(3)] for letter in "ab"
    ]
    post(lms, ACCOUNTS, [account(each) for each in [*single_names, *batch_names]])
    one_by_one = process(
        lms, "enrollments", enrollment_items(single_names, mode), in_one_batch=False
    )
    items = enrollment_items(batch_names, mode)
    batched = process(lms, "enrollments", items, in_one_batch=True, returns_keys=returns_keys)

    assert {result["status"] for result in batched["results"]} == {"changed"}
    assert signals_by_learner(batched, f"{name}_b") == signals_by_learner(one_by_one, f"{name}_a")
    states = [enrollments_of(lms, each) for each in [*single_names, *batch_names]]
    assert all(state == states[0] != [] for state in states)


def test_each_further_item_needs_few_statements(lms: Lms, name: str) -> None:
    def statements(kind: str, items: list[Any]) -> int:
        return len(process(lms, kind, items, in_one_batch=True)["statements"])

    names = [f"{name}_{number:02}" for number in range(25)]
    few, many = names[:5], names[5:]  # both fit in one transaction, of 25 items
    accounts = [
        statements("accounts", [account(name) for name in learners]) for learners in (few, many)
    ]
    enrollments = [
        statements("enrollments", enrollment_items(learners)) for learners in (few, many)
    ]

    further_items = len(many) - len(few)
    assert (accounts[1] - accounts[0]) / further_items < 1
    assert (enrollments[1] - enrollments[0]) / further_items < 2


def test_existing_items_need_few_statements(lms: Lms, name: str) -> None:
    """For accounts, statements find the caller, earlier outcomes, the learners and the OAuth
    client, and store tokens and outcomes. For enrollments, they find the caller, earlier outcomes,
    the learners, the runs and the enrollments, and store the outcomes."""
    names = [f"{name}_{number}" for number in range(5)]
    accounts = [{**account(name), "tokens": True} for name in names]
    for kind, items, status, reads, writes in (
        ("accounts", accounts, "exists", 4, 4),
        ("enrollments", enrollment_items(names), "unchanged", 5, 2),
    ):
        process(lms, kind, items, in_one_batch=True)
        second_outcome = process(lms, kind, items, in_one_batch=True, request_id=f"{name} {kind}")
        assert {result["status"] for result in second_outcome["results"]} == {status}
        statement_counts = Counter(second_outcome["statements"])
        assert statement_counts["SELECT"] == reads
        assert statement_counts["INSERT"] + statement_counts["UPDATE"] == writes


def test_an_invalid_item_is_refused_before_the_other_items_are_written(lms: Lms, name: str) -> None:
    names = [f"{name}_{number}" for number in range(4)]
    post(lms, ACCOUNTS, [account(name) for name in names])
    items = enrollment_items(names)
    items[1]["mode"] = "no-such-mode"
    answer = process(lms, "enrollments", items, in_one_batch=True)

    statuses = Counter(result["status"] for result in answer["results"])
    assert statuses == {"changed": 3, "refused": 1}
    # The batch was not repeated: there is one event for each enrollment.
    announced = Counter(signal[1] for signal in answer["sent"])
    assert announced["org.openedx.learning.course.enrollment.created.v1"] == 3


def test_items_about_the_same_enrollment_are_processed_in_order(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name), account(f"{name}_other")])
    items = [
        {"id": 1, "username": name, "course_id": DEMO, "is_active": False},
        {"id": 2, "username": name, "course_id": DEMO, "mode": "audit"},
        {"id": 3, "username": name, "course_id": DEMO, "mode": "verified"},
        {"id": 4, "username": f"{name}_other", "course_id": DEMO},
    ]
    results = post(lms, ENROLLMENTS, items)

    assert [result["status"] for result in results] == ["refused", "changed", "changed", "changed"]
    assert enrollments_of(lms, name) == [(DEMO, "verified", 1)]


def test_roles_are_read_once_for_all_learners_in_releases_without_get_role_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefetched: list[Any] = []

    class BulkRoleCache:
        CACHE_NAMESPACE = "roles"

        @classmethod
        def prefetch(cls, users: list[Any]) -> None:
            prefetched.append(list(users))

    class RoleCache:
        def __init__(self, user: Any) -> None:
            self.user = user

    # Takes the place of the platform's module of roles, and has no ``get_role_cache``.
    roles = SimpleNamespace(BulkRoleCache=BulkRoleCache, RoleCache=RoleCache)
    for name in ("common", "common.djangoapps"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "common.djangoapps.student", SimpleNamespace(roles=roles))
    users = [SimpleNamespace(), SimpleNamespace()]

    platform_enrollments._prefetch_roles(users)

    assert prefetched == [users]
    assert [user._roles.user for user in users] == users


def test_only_a_receiver_with_known_source_may_be_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ``__wrapped__`` is the function without its cache.
    name = f"{__name__}.{_example.__name__}"
    monkeypatch.setitem(platform_receivers.KNOWN, name, ("of another release",))
    assert platform_receivers._known_function.__wrapped__(name) is None

    known_fingerprint = platform_receivers.fingerprint(_example)
    monkeypatch.setitem(platform_receivers.KNOWN, name, (known_fingerprint,))
    assert platform_receivers._known_function.__wrapped__(name) is _example
    assert platform_receivers._known_function.__wrapped__("no.such.module") is None


def test_a_receiver_is_skipped_once_for_each_row_and_only_in_the_same_thread() -> None:
    signal = Signal()
    calls: list[tuple[str, int]] = []

    def replaced(number: int, **_: Any) -> None:
        calls.append(("replaced", number))

    def other(number: int, **_: Any) -> None:
        calls.append(("other", number))

    # A signal about 3, which is not in the list of rows, is sent within the block.
    def nested(number: int, **_: Any) -> None:
        if number == 1:
            signal.send(None, number=3)

    for receiver in (replaced, other, nested):
        signal.connect(receiver)
    with bulk.skipping_receivers(signal, [replaced], [1, 2, 4], lambda number, **_: number):
        called = [receiver.__name__ for receiver, _ in signal.send(None, number=1)]
        signal.send_robust(None, number=2)
        signal.send(None, number=2)
        with ThreadPoolExecutor(1) as other_thread:
            other_thread.submit(signal.send, None, number=4).result()
    signal.send(None, number=2)

    # A skipped receiver is in the result, as if it had run.
    assert called == ["replaced", "other", "nested"]
    # Skipped: the signal about 1 and the first one about 2. The signal about 4 came from another
    # thread.
    call_counts = Counter(calls)
    assert {number: call_counts["replaced", number] for number in (1, 2, 3, 4)} == {
        1: 0,
        2: 2,
        3: 1,
        4: 1,
    }
    assert {number: call_counts["other", number] for number in (1, 2, 3, 4)} == {
        1: 1,
        2: 3,
        3: 1,
        4: 1,
    }


#: The receiver whose source ``test_only_a_receiver_with_known_source_may_be_skipped`` compares.
def _example() -> int:
    return 1  # a comment and blanks do not count
