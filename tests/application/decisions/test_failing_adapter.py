"""If a method of ``USHER_ADAPTER`` raises for one learner, only that learner's records fail."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

from usher.application.accounts.adoption import propose
from usher.application.accounts.services import ensure_accounts
from usher.application.adapter import AdapterFailed, DefaultAdapter, adapter
from usher.application.enrollments.modes import replace_default_mode
from usher.application.enrollments.services import enroll
from usher.application.explain import explain
from usher.application.lms.drift import drift
from usher.application.models import CourseRun, Enrollment, LmsAccount
from usher.application.states import State, state
from usher.engine.services import reconcile

FAILING_PREFIX = "bug"


class Failing(DefaultAdapter):
    """An adapter whose method ``method`` raises for learners whose username starts with
    ``FAILING_PREFIX``."""

    method: str | None = None

    def _raise_if_failing(self, method: str, user: Any) -> None:
        if method == Failing.method and user.username.startswith(FAILING_PREFIX):
            raise KeyError("no such field")

    def lms_username(self, user: Any) -> str:
        self._raise_if_failing("lms_username", user)
        return super().lms_username(user)

    def full_name(self, user: Any) -> str:
        self._raise_if_failing("full_name", user)
        return super().full_name(user)

    def email(self, user: Any) -> str:
        self._raise_if_failing("email", user)
        return super().email(user)

    def country(self, user: Any) -> str:
        self._raise_if_failing("country", user)
        return super().country(user)

    def is_confirmed(self, user: Any) -> bool:
        self._raise_if_failing("is_confirmed", user)
        return super().is_confirmed(user)

    def is_eligible(self, user: Any) -> bool:
        self._raise_if_failing("is_eligible", user)
        return super().is_eligible(user)

    def allowed_modes(self, user: Any, run: Any) -> Any:
        self._raise_if_failing("allowed_modes", user)
        return super().allowed_modes(user, run)


@pytest.fixture
def make_fail(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes one method of the adapter fail. With None, no method fails."""
    settings.USHER_ADAPTER = f"{__name__}.Failing"

    def make_method_fail(name: str | None) -> None:
        monkeypatch.setattr(Failing, "method", name)

    return make_method_fail


def accounts(*users: Any) -> list[LmsAccount]:
    return [LmsAccount.objects.get(user=user) for user in users]


METHODS_FOR_ACCOUNTS = ["full_name", "email", "country", "is_eligible", "is_confirmed"]


@pytest.mark.parametrize("method", METHODS_FOR_ACCOUNTS)
def test_only_the_account_of_the_failing_learner_fails_and_names_the_method(
    system_with_batch_api: Any, make_fail: Any, method: str
) -> None:
    first, failing, last = (
        system_with_batch_api.learner(),
        system_with_batch_api.learner(FAILING_PREFIX),
        system_with_batch_api.learner(),
    )
    ensure_accounts()
    make_fail(method)
    reconcile(["account", "token"])
    assert [state(account) for account in accounts(first, last)] == [State.IN_SYNC] * 2
    (row,) = accounts(failing)
    assert (row.error_code, row.is_ready) == ("adapter-failed", False)
    assert (
        f"{method} of USHER_ADAPTER failed for the user {failing.pk}: KeyError" in row.error_message
    )
    # The adapter works again.
    make_fail(None)
    LmsAccount.objects.filter(pk=row.pk).make_due()
    reconcile(["account", "token"])
    assert state(*accounts(failing)) is State.IN_SYNC


def test_other_learners_get_accounts_if_lms_username_fails_for_one_learner(
    db: None, make_fail: Any
) -> None:
    users = get_user_model().objects
    first, failing, last = (
        users.create_user(username=name, email=f"{name}@x.example")
        for name in ("ada", FAILING_PREFIX, "cy")
    )
    make_fail("lms_username")
    assert ensure_accounts() == 2
    assert [account.username for account in accounts(first, last)] == ["ada", "cy"]
    story = " ".join(f"{sentence.text} {sentence.cause}" for sentence in explain(failing))
    assert "lms_username of USHER_ADAPTER failed: KeyError: 'no such field'." in story


def test_a_user_can_be_saved_while_the_adapter_fails_and_the_profile_is_sent_later(
    system_with_batch_api: Any, make_fail: Any
) -> None:
    user = system_with_batch_api.learner(FAILING_PREFIX, name="Ada")
    ensure_accounts()
    reconcile(["account", "token"])
    make_fail("full_name")
    user.name = "Ada Lovelace"
    user.save()
    reconcile(["account", "profile"])
    (row,) = accounts(user)
    assert (row.error_code, row.is_ready) == ("adapter-failed", True)
    # The adapter works again.
    make_fail(None)
    LmsAccount.objects.filter(pk=row.pk).make_due()
    reconcile(["account", "profile"])
    assert state(*accounts(user)) is State.IN_SYNC
    assert system_with_batch_api.account(row.username)["name"] == "Ada Lovelace"


def test_drift_shows_the_failure_of_one_learner_and_checks_the_others(
    system_with_batch_api: Any, make_fail: Any
) -> None:
    failing, unaffected = (
        system_with_batch_api.learner(FAILING_PREFIX),
        system_with_batch_api.learner(),
    )
    ensure_accounts()
    reconcile(["account", "token"])
    make_fail("email")
    differences = {
        difference.what: difference.here
        for difference in drift(["account"])
        if difference.field == "email"
    }
    assert differences == {
        failing.username: "(email of USHER_ADAPTER failed: KeyError: 'no such field')"
    }
    assert unaffected.username not in differences
    assert propose("email") == []  # ``propose`` doesn't raise the error, either


def test_drift_plans_no_account_for_a_learner_who_may_have_none(
    system_with_batch_api: Any, make_fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unconfirmed: set[str] = set()
    monkeypatch.setattr(
        Failing, "is_confirmed", lambda self, user: user.username not in unconfirmed
    )
    failing, refused, unaffected = (
        system_with_batch_api.learner(FAILING_PREFIX),
        system_with_batch_api.learner("refused"),
        system_with_batch_api.learner(),
    )
    ensure_accounts()
    unconfirmed.add(refused.username)
    make_fail("is_eligible")
    differences = {difference.what: difference for difference in drift(["account"])}
    assert differences[unaffected.username].action == "create it"
    assert differences[failing.username].action == ""
    assert differences[failing.username].note == (
        "is_eligible of USHER_ADAPTER failed: KeyError: 'no such field'"
    )
    assert refused.username not in differences


def test_modes_of_other_learners_change_if_allowed_modes_fails_for_one_learner(
    db: None, make_fail: Any
) -> None:
    users = get_user_model().objects
    failing = users.create_user(username=FAILING_PREFIX, email="bug@x.example")
    unaffected = users.create_user(username="ada", email="ada@x.example")
    run = CourseRun.objects.create(course_key="course-v1:a+b+c")
    for user in (failing, unaffected):
        enroll(user, run)
    run.modes.create(slug="honor", name="Honor")
    make_fail("allowed_modes")
    replace_default_mode(run)
    assert Enrollment.objects.get(user=unaffected).mode == "honor"
    assert Enrollment.objects.get(user=failing).mode == "audit"
    with pytest.raises(AdapterFailed, match="allowed_modes of USHER_ADAPTER failed"):
        enroll(failing, run)


def test_pages_answer_while_the_adapter_fails(db: None, make_fail: Any) -> None:
    failing = get_user_model().objects.create_user(username=FAILING_PREFIX, email="b@x.org")
    run = CourseRun.objects.create(course_key="course-v1:a+b+c", live=True)
    browser = Client()
    browser.force_login(failing)
    make_fail("email")
    answer = browser.get("/api/v1/me/")
    assert (answer.status_code, answer.json()["email"]) == (200, "")
    make_fail("is_eligible")
    answer = browser.get("/oauth2/authorize/", {"client_id": "x", "response_type": "code"})
    assert answer.status_code == 503
    assert "be opened for you at the moment" in answer.content.decode()
    make_fail("allowed_modes")
    data = {"course_key": run.course_key}
    answer = browser.post("/api/v1/enrollments/", data, content_type="application/json")
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("full_name", None, ""),
        ("country", None, ""),
        ("is_eligible", 1, True),
        ("allowed_modes", None, None),
        ("allowed_modes", ["audit"], ["audit"]),
    ],
)
def test_usable_return_values_are_accepted(
    settings: Any, monkeypatch: pytest.MonkeyPatch, method: str, answer: Any, expected: Any
) -> None:
    monkeypatch.setattr(Failing, method, lambda *_: answer)
    settings.USHER_ADAPTER = f"{__name__}.Failing"
    user = get_user_model()(pk=7)
    arguments = (user, None) if method == "allowed_modes" else (user,)  # None: any course run
    assert getattr(adapter(), method)(*arguments) == expected


@pytest.mark.parametrize(
    ("method", "answer"), [("full_name", 5), ("email", b"a@b"), ("allowed_modes", "audit")]
)
def test_return_values_of_a_wrong_type_are_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch, method: str, answer: Any
) -> None:
    monkeypatch.setattr(Failing, method, lambda *_: answer)
    settings.USHER_ADAPTER = f"{__name__}.Failing"
    user = get_user_model()(pk=7)
    arguments = (user, None) if method == "allowed_modes" else (user,)  # None: any course run
    with pytest.raises(AdapterFailed, match=f"{method} of USHER_ADAPTER.* user 7: it returned"):
        getattr(adapter(), method)(*arguments)


class QuerysetAdapter(DefaultAdapter):
    """An adapter whose ``eligible``, ``confirmed`` and ``allowed_modes`` return ``answer``. If
    ``answer`` is an exception, ``eligible`` and ``confirmed`` raise ``answer``."""

    answer: Any = None

    def eligible(self, users: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    confirmed = eligible

    def allowed_modes(self, user: Any, run: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (KeyError("no such field"), "KeyError: 'no such field'"),
        (None, "it returned NoneType None, not a queryset"),
        ([1], "it returned list [1], not a queryset"),
    ],
)
def test_a_failure_of_eligible_is_named_in_every_report(
    system_with_batch_api: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    reason: str,
) -> None:
    user = system_with_batch_api.learner()
    ensure_accounts()
    settings.USHER_ADAPTER = f"{__name__}.QuerysetAdapter"
    monkeypatch.setattr(QuerysetAdapter, "answer", answer)
    reconcile(["account"])
    (row,) = accounts(user)
    assert (row.error_code, row.is_ready) == ("adapter-failed", False)
    assert row.error_message.startswith("eligible of USHER_ADAPTER failed")
    assert reason in row.error_message
    assert "of USHER_ADAPTER failed" in " ".join(
        f"{sentence.text} {sentence.cause}" for sentence in explain(user)
    )
    system_with_batch_api.learner("without-account")
    with pytest.raises(CommandError, match="eligible of USHER_ADAPTER failed"):
        call_command("repair_missing_courseware_records")


def test_modes_that_are_no_strings_are_refused(
    system_with_batch_api: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USHER_ADAPTER = f"{__name__}.QuerysetAdapter"
    monkeypatch.setattr(QuerysetAdapter, "answer", [1])
    run = CourseRun.objects.create(course_key="course-v1:a+b+c")
    with pytest.raises(AdapterFailed, match=r"allowed_modes .* it returned list \[1\]"):
        enroll(system_with_batch_api.learner(), run)
