"""Short transactions of the batch API: outcomes are correct, whatever happens within a transaction.

Each test processes a batch in a process to which it connects receivers that behave like the
platform's.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.lms.conftest import DEMO, E2E, Lms, account
from tests.lms.test_batch import ACCOUNTS, ENROLLMENTS, error_code, post, post_one
from usher.client.batch import result_of
from usher.client.errors import LmsError
from usher.contract.failures import FailureClass

#: The beginning of each script of ``run_script``.
PREPARE = """
import json
from django.contrib.sites.models import Site
from django.db import DatabaseError, IntegrityError, OperationalError, connection
from django.db.models.signals import post_save
from django.test import RequestFactory, override_settings
from django.contrib.auth import get_user_model
from usher.lms import conf
from usher.lms.api.accounts import process_accounts
from usher.lms.api.enrollments import process_enrollments
from usher.lms.api.forms import AccountBatch, EnrollmentBatch
from usher.lms.connections.models import ConnectedApplication

platform = conf.platform()
Enrollment, User = platform.enrollment_model(), get_user_model()

def process_batch(form, items, request_id=""):
    valid = form(data={"items": items})
    valid.is_valid(raise_exception=True)
    items = valid.validated_data["items"]
    application = ConnectedApplication.objects.get()
    if form is AccountBatch:
        return process_accounts(items, application, Site.objects.get_current(), request_id)
    return process_enrollments(RequestFactory().get("/"), items, application, request_id)

def process_with_receiver(signal_receiver, sender, form, items):
    post_save.connect(signal_receiver, sender=sender, weak=False, dispatch_uid="test")
    try:
        return process_batch(form, items)
    finally:
        post_save.disconnect(sender=sender, dispatch_uid="test")
"""

#: Enrolls ``given["items"]``. A receiver rolls the transaction back and raises no error, like a
#: receiver that catches the error of a deadlock on MySQL.
ENROLL_WITH_A_ROLLBACK = """
calls = []
def roll_back(sender, instance, **kwargs):
    calls.append(1)
    if len(calls) == 20:  # one of the 30 enrollments
        connection.connection.rollback()
outcome = process_with_receiver(roll_back, Enrollment, EnrollmentBatch, given["items"])
"""


@pytest.fixture
def learners(lms: Lms, name: str) -> list[str]:
    """The usernames of 30 new accounts."""
    return create_accounts(lms, name)


def create_accounts(lms: Lms, name: str, number: int = 30, tokens: bool = False) -> list[str]:
    """Creates ``number`` accounts. Returns their usernames, which begin with ``name``."""
    names = [f"{name}_{index:02}" for index in range(number)]
    results = post(lms, ACCOUNTS, [account(name, tokens=tokens) for name in names])
    assert {result["status"] for result in results} == {"created"}
    return names


def enrollments(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": name, "username": name, "course_id": DEMO, "mode": "verified"} for name in names]


def run_script(lms: Lms, script: str, **values: Any) -> Any:
    """Runs a script in the LMS with ``values`` in its variable ``given``, a dict. Returns the
    script's variable ``outcome``. ``values`` and ``outcome`` must be serializable as JSON."""
    given = f"given = json.loads({json.dumps(json.dumps(values))})\n"
    result = lms.run("shell", "-c", PREPARE + given + script + "\nprint(json.dumps(outcome))")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.strip().splitlines()[-1])


def enrolled_as_verified(lms: Lms, names: list[str]) -> set[str]:
    """The learners who are enrolled as verified, of all learners that were created with ``names``
    by the same ``create_accounts``."""
    rows = lms.execute(
        "select username from student_courseenrollment e join auth_user u on u.id = e.user_id "
        "where mode = 'verified' and e.is_active and username like ?",
        names[0][:-2] + "%",  # ``create_accounts`` appends two digits
    )
    return {row[0] for row in rows}


def test_a_batch_is_repeated_after_a_rollback_that_a_receiver_hides(
    lms: Lms, learners: list[str]
) -> None:
    """The platform's ``create_schedule`` only logs the error of a deadlock."""
    outcome = run_script(lms, ENROLL_WITH_A_ROLLBACK, items=enrollments(learners))

    # SQLite keeps the rows that were written after the rollback, so they are "unchanged" when the
    # batch is repeated.
    ids = {each["id"] for each in outcome if each["status"] in ("changed", "unchanged")}
    assert ids == enrolled_as_verified(lms, learners) == set(learners)


# One item, and more items than one transaction has.
@pytest.mark.parametrize("number", [1, 30])
def test_a_database_error_after_a_rollback_refuses_no_item(
    lms: Lms, learners: list[str], number: int
) -> None:
    """An example is the error of saving a row again after its insertion was rolled back."""
    script = """
calls = []
def roll_back(sender, instance, **kwargs):
    calls.append(1)
    if len(calls) == 1:
        connection.connection.rollback()
        raise DatabaseError("Save with update_fields did not affect any rows.")
outcome = process_with_receiver(roll_back, Enrollment, EnrollmentBatch, given["items"])
"""
    outcome = run_script(lms, script, items=enrollments(learners)[:number])

    assert [each["status"] for each in outcome if each["status"] == "refused"] == []
    assert enrolled_as_verified(lms, learners) == set(learners[:number])


@pytest.mark.parametrize(
    "number", [1213, 1205, 1305], ids=["deadlock", "lock timeout", "lost savepoint"]
)
def test_a_transaction_is_repeated_after_a_deadlock_lock_timeout_or_lost_savepoint(
    lms: Lms, learners: list[str], number: int
) -> None:
    """number: the code of MySQL's error."""
    script = """
calls = []
def collide(sender, instance, **kwargs):
    calls.append(1)
    if len(calls) == 7:  # one of the 30 enrollments
        raise OperationalError(given["number"], "as MySQL says it")
outcome = process_with_receiver(collide, Enrollment, EnrollmentBatch, given["items"])
"""
    outcome = run_script(lms, script, items=enrollments(learners), number=number)

    assert {each["status"] for each in outcome} == {"changed"}
    assert enrolled_as_verified(lms, learners) == set(learners)


#: Raises OperationalError(given["number"]) for each save of the learner ``given["bad"]``.
ALWAYS_COLLIDE = """
def collide(sender, instance, **kwargs):
    if instance.user.username == given["bad"]:
        raise OperationalError(given["number"], "as MySQL says it")
"""


@pytest.mark.parametrize(
    "number", [1213, 1205, 2013], ids=["deadlock", "lock timeout", "lost connection"]
)
def test_an_item_whose_rows_stay_locked_fails_and_is_not_refused(
    lms: Lms, learners: list[str], number: int
) -> None:
    """A refused item would not be sent again until its cause changes."""
    script = ALWAYS_COLLIDE + (
        "outcome = process_with_receiver(collide, Enrollment, EnrollmentBatch, given['items'])"
    )
    bad = learners[11]
    outcome = run_script(lms, script, items=enrollments(learners), number=number, bad=bad)

    (failed,) = [each for each in outcome if each["status"] != "changed"]
    assert (failed["id"], failed["status"]) == (bad, "failed")
    assert failed["error"]["code"] == "database-busy"
    with pytest.raises(LmsError) as raised:
        result_of({failed["id"]: failed}, failed["id"])
    assert raised.value.failure_class is FailureClass.TRANSIENT
    assert enrolled_as_verified(lms, learners) == set(learners) - {bad}


def test_after_long_waits_for_locks_no_further_items_are_processed(
    lms: Lms, learners: list[str]
) -> None:
    """The caller does not wait any longer, and other requests need the process."""
    script = (
        ALWAYS_COLLIDE
        + """
import time
from types import SimpleNamespace
from usher.lms import transactions
from usher.lms.api import transactions as batch_transactions
# MySQL waits 50 seconds for a lock.
times = iter(range(0, 100_000, 50))
clock = SimpleNamespace(monotonic=lambda: next(times), sleep=lambda seconds: None)
transactions.time = batch_transactions.time = clock
try:
    outcome = process_with_receiver(collide, Enrollment, EnrollmentBatch, given["items"])
finally:
    transactions.time = batch_transactions.time = time
"""
    )
    items = enrollments(learners)
    outcome = run_script(lms, script, items=items, number=1205, bad=learners[0])

    assert {each["status"] for each in outcome} == {"failed"}
    assert enrolled_as_verified(lms, learners) == set()


# One item, and more items than one transaction has.
@pytest.mark.parametrize("number", [1, 30])
def test_a_row_that_another_request_inserted_first_refuses_no_item(
    lms: Lms, name: str, number: int
) -> None:
    script = """
calls = []
def collide(sender, instance, **kwargs):
    calls.append(1)
    if len(calls) == 1:
        raise IntegrityError(1062, "Duplicate entry")
outcome = process_with_receiver(collide, User, AccountBatch, given["items"])
"""
    items = [account(f"{name}{index:02}") for index in range(number)]
    outcome = run_script(lms, script, items=items)

    assert {each["status"] for each in outcome} == {"created"}


#: Makes another request create the accounts of ``given["items"]`` just before the batch looks up
#: which usernames and addresses are taken.
CREATE_THE_ACCOUNTS_FIRST = """
from usher.lms.accounts import lookup
find_taken = lookup.find_taken
def create_then_find(*values, **named):
    lookup.find_taken = find_taken
    process_batch(AccountBatch, given["items"])
    return find_taken(*values, **named)
lookup.find_taken = create_then_find
"""


def test_accounts_that_another_request_creates_meanwhile_have_the_status_exists(
    lms: Lms, name: str
) -> None:
    """The usernames are taken by then, but by accounts that are linked to the application."""
    script = CREATE_THE_ACCOUNTS_FIRST + "outcome = process_batch(AccountBatch, given['items'])"
    items = [account(f"{name}{letter}", tokens=True) for letter in "abc"]
    outcome = run_script(lms, script, items=items)

    assert [each["status"] for each in outcome] == ["exists"] * 3
    assert all(each["tokens"] for each in outcome)


def test_an_item_that_the_database_refuses_is_the_only_refused_item(
    lms: Lms, learners: list[str]
) -> None:
    script = """
def refuse(sender, instance, **kwargs):
    if instance.user.username == given["bad"]:
        raise IntegrityError("no")
outcome = process_with_receiver(refuse, Enrollment, EnrollmentBatch, given["items"])
"""
    bad = learners[11]
    outcome = run_script(lms, script, items=enrollments(learners), bad=bad)

    assert {each["id"] for each in outcome if each["status"] == "refused"} == {bad}
    assert enrolled_as_verified(lms, learners) == set(learners) - {bad}


def test_an_account_that_a_receiver_refuses_leaves_no_rows(lms: Lms, name: str) -> None:
    """A receiver of the platform may refuse an account after the user is saved."""
    script = """
from usher.lms.errors import AccountRefused
from usher.contract.failures import RegistrationError
def refuse(sender, instance, **kwargs):
    if instance.username == given["bad"]:
        raise AccountRefused(RegistrationError.VALIDATION, {"username": "no"})
outcome = process_with_receiver(refuse, User, AccountBatch, given["items"])
"""
    items = [account(f"{name}{letter}") for letter in "abc"]
    outcome = run_script(lms, script, items=items, bad=name + "b")

    assert [each["status"] for each in outcome] == ["created", "refused", "created"]
    usernames = lms.execute("select username from auth_user where username like ?", name + "%")
    assert sorted(usernames) == [(name + "a",), (name + "c",)]


def test_a_request_is_not_one_transaction(lms: Lms) -> None:
    """Tutor switches ``ATOMIC_REQUESTS`` on, which would make each batch one long transaction."""
    script = """
from django.urls import resolve
paths = ["accounts/", "enrollments/"]
outcome = [
    "default" in getattr(resolve("/usher/api/v1/" + path).func, "_non_atomic_requests", ())
    for path in paths
]
"""
    assert run_script(lms, script) == [True, True]


class TestRequestIds:
    def test_a_repeated_request_returns_the_outcome_of_the_first_request(
        self, lms: Lms, name: str
    ) -> None:
        items = [account(f"{name}{number:02}", tokens=True) for number in range(30)]
        count_tokens = (
            "select count(*) from oauth2_provider_accesstoken t join auth_user u "
            f"on u.id = t.user_id where username like '{name}%'"
        )

        # Three requests at the same time, and one later.
        with ThreadPoolExecutor(3) as pool:
            futures = [
                pool.submit(post, lms, ACCOUNTS, items, request_id="r-" + name) for _ in range(3)
            ]
            first, second, third = (each.result() for each in futures)
        fourth = post(lms, ACCOUNTS, items, request_id="r-" + name)

        def statuses_and_tokens(results: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
            rows = []
            for result in results:
                tokens = result["tokens"]
                rows.append((result["status"], tokens["access_token"], tokens["refresh_token"]))
            return rows

        for repeated in (second, third, fourth):
            assert statuses_and_tokens(repeated) == statuses_and_tokens(first)
        assert {each["status"] for each in fourth} == {"created"}
        assert lms.value(count_tokens) == 30

    def test_stored_outcomes_contain_no_tokens(self, lms: Lms, name: str) -> None:
        lms.execute("delete from usher_lms_batchoutcome")
        result = post(lms, ACCOUNTS, [account(name, tokens=True)], request_id="k-" + name)[0]
        stored = lms.value("select outcomes from usher_lms_batchoutcome")
        assert result["tokens"]["access_token"] not in stored
        assert result["tokens"]["refresh_token"] not in stored

    def test_a_request_id_of_a_request_with_another_item_is_refused(
        self, lms: Lms, name: str
    ) -> None:
        item = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
        post(lms, ACCOUNTS, [account(name)], request_id=name)
        # The request ids of accounts and enrollments are separate.
        assert post(lms, ENROLLMENTS, [item], request_id=name)[0]["status"] == "changed"
        assert post(lms, ENROLLMENTS, [item], request_id=name)[0]["status"] == "changed"
        # An empty request id is none, so the item is processed again.
        assert post(lms, ENROLLMENTS, [item], request_id="")[0]["status"] == "unchanged"
        with lms.api() as api:
            body = {"items": [{**item, "course_id": E2E}], "request_id": name}
            answer = api.post(ENROLLMENTS, json=body)
        assert answer.status_code == 409
        assert "request_id" in answer.json()["detail"]

    def test_a_request_id_of_a_request_with_fewer_items_is_refused(
        self, lms: Lms, name: str
    ) -> None:
        """The first transaction, of 25 items, is the same in both requests."""
        items = [account(f"{name}{number:02}") for number in range(26)]
        post(lms, ACCOUNTS, items[:25], request_id=name)
        with lms.api() as api:
            answer = api.post(ACCOUNTS, json={"items": items, "request_id": name})
        assert answer.status_code == 409
        assert lms.execute("select id from auth_user where username = ?", f"{name}25") == []

    # The first of a transaction's items, whose row would show that there was an earlier request,
    # and another one.
    @pytest.mark.parametrize("position", [0, 3])
    def test_a_repeated_request_returns_outcomes_of_items_that_were_processed_one_by_one(
        self, lms: Lms, learners: list[str], position: int
    ) -> None:
        """If one item fails, the LMS processes the items one by one, and stores their outcomes. The
        repetition processes only the refused item again. ``bad``: the username of its learner, used
        as the request id too."""
        script = """
def refuse(sender, instance, **kwargs):
    if instance.user.username == given["bad"]:
        raise IntegrityError("no")
def process_with_request_id():
    valid = EnrollmentBatch(data={"items": given["items"]})
    valid.is_valid(raise_exception=True)
    application = ConnectedApplication.objects.get()
    return process_enrollments(
        RequestFactory().get("/"), valid.validated_data["items"], application, given["bad"])
post_save.connect(refuse, sender=Enrollment, weak=False, dispatch_uid="test")
first = process_with_request_id()
post_save.disconnect(sender=Enrollment, dispatch_uid="test")
outcome = [first, process_with_request_id()]
"""
        bad = learners[position]
        first, second = run_script(lms, script, items=enrollments(learners), bad=bad)

        assert [each["status"] for each in first].count("changed") == 29
        assert {each["status"] for each in second} == {"changed"}

    def test_old_outcomes_are_deleted(self, lms: Lms, name: str) -> None:
        post(lms, ACCOUNTS, [account(name)], request_id=name)
        lms.execute("update usher_lms_batchoutcome set created = '2020-01-01'")
        run_script(lms, "from usher.lms.api.repetitions import prune\nprune()\noutcome = None")
        assert lms.value("select count(*) from usher_lms_batchoutcome") == 0


class TestRegistrationFilters:
    #: A registration filter that refuses the account "b" and writes names in capital letters.
    STEPS = """
import sys, types
from usher.embedded.user_authn.filters import REGISTRATION, PreventRegistration
steps = types.ModuleType("steps_of_a_test")
def refuse(form_data):
    if form_data["username"].endswith("b"):
        raise PreventRegistration("Not from here.")
    return {**form_data, "name": form_data["name"].upper()}
steps.refuse = refuse
sys.modules["steps_of_a_test"] = steps
with override_settings(
    OPEN_EDX_FILTERS_CONFIG={REGISTRATION: {"pipeline": ["steps_of_a_test.refuse"]}}
):
    outcome = process_batch(AccountBatch, given["items"])
"""

    def test_registration_filters_change_and_refuse_accounts(self, lms: Lms, name: str) -> None:
        items = [account(f"{name}{letter}") for letter in "abc"]
        outcome = run_script(lms, self.STEPS, items=items)

        assert [each["status"] for each in outcome] == ["created", "refused", "created"]
        assert error_code(outcome[1]) == "validation-error"
        assert outcome[1]["error"]["message"] == "Not from here."
        profile = "select name from auth_userprofile p join auth_user u on u.id = p.user_id "
        assert lms.value(profile + "where username = ?", name + "a") == f"NAME {name}A".upper()


def test_an_account_that_was_invited_to_a_course_is_saved_inactive_and_then_active(
    lms: Lms, name: str
) -> None:
    """The platform enrolls invited people when their user changes from inactive to active."""
    lms.execute(
        "insert into student_courseenrollmentallowed (email, course_id, auto_enroll, created) "
        "values (?, ?, 1, '2026-01-01')",
        f"{name}b@learners.example",
        DEMO,
    )
    script = """
saves = []
def record_save(sender, instance, created, **kwargs):
    saves.append([instance.username[-1], created, instance.is_active])
process_with_receiver(record_save, User, AccountBatch, given["items"])
outcome = saves
"""
    items = [account(name + "a"), account(name + "b")]
    # Each save: last letter of the username, whether the row is new, whether the user is active.
    assert run_script(lms, script, items=items) == [
        ["a", True, True],
        ["b", True, False],
        ["b", False, True],
    ]
    assert post_one(lms, ACCOUNTS, **account(name + "b"))["status"] == "exists"


def test_an_item_for_which_a_receiver_fails_is_the_only_refused_item(
    lms: Lms, learners: list[str]
) -> None:
    script = """
def fail(sender, instance, **kwargs):
    if instance.user.username == given["bad"]:
        raise KeyError("of another app")
outcome = process_with_receiver(fail, Enrollment, EnrollmentBatch, given["items"])
"""
    bad = learners[2]
    outcome = run_script(lms, script, items=enrollments(learners), bad=bad)

    assert {each["id"] for each in outcome if each["status"] == "refused"} == {bad}
    assert enrolled_as_verified(lms, learners) == set(learners) - {bad}


def test_the_request_cache_is_emptied_when_a_transaction_is_rolled_back(
    lms: Lms, learners: list[str]
) -> None:
    """The platform keeps in its request cache whether somebody is enrolled."""
    script = """
from edx_django_utils.cache import RequestCache
cache, remembered, calls = RequestCache("enrolled"), [], []
def remember(sender, instance, **kwargs):
    calls.append(1)
    remembered.append(cache.get_cached_response(instance.user.username).is_found)
    if len(calls) == 9:
        cache.set(instance.user.username, True)
        raise OperationalError(1213, "as MySQL says it")
outcome = [process_with_receiver(remember, Enrollment, EnrollmentBatch, given["items"]), remembered]
"""
    outcome, remembered = run_script(lms, script, items=enrollments(learners))

    assert {each["status"] for each in outcome} == {"changed"}
    assert len(remembered) > len(learners)  # the transaction was repeated
    assert not any(remembered)
