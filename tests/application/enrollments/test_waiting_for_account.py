"""An enrollment that waits for the learner's LMS account reports why the account is not ready."""

from typing import Any

import pytest
from allauth.account.models import EmailAddress

from tests.application.conftest import make_learner
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.adapter import DefaultAdapter
from usher.application.enrollments.services import enroll
from usher.application.runs.services import ensure_run
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


class BannedLearners(DefaultAdapter):
    """Learners whose username starts with ``banned`` may have no account."""

    def is_eligible(self, user: Any) -> bool:
        return not user.username.startswith("banned")


def make_deactivated() -> Any:
    return make_learner(is_active=False)


def make_deactivated_later() -> Any:
    """A learner who was deactivated after the LMS account had been requested."""
    user = make_learner()
    ensure_account(user)
    user.is_active = False
    user.save()
    return user


def make_unconfirmed() -> Any:
    """A learner who has not confirmed the e-mail address."""
    user = make_learner()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    return user


def make_banned() -> Any:
    return make_learner("banned")


#: Runs a test for each reason for which a learner may have no account.
FOR_EACH_REASON = pytest.mark.parametrize(
    ("make_learner_of_case", "code", "message"),
    [
        (make_deactivated, "inactive", "Not sent. The user is deactivated in this application."),
        (
            make_deactivated_later,
            "inactive",
            "Not sent. The user is deactivated in this application.",
        ),
        (make_unconfirmed, "unconfirmed", "Not sent. The e-mail address is not confirmed."),
        (
            make_banned,
            "not-eligible",
            "Not sent. USHER_ADAPTER does not allow this learner an LMS account.",
        ),
    ],
)


@FOR_EACH_REASON
def test_an_enrollment_reports_why_its_learner_may_have_no_account_until_the_reason_ends(
    system: Any, settings: Any, make_learner_of_case: Any, code: str, message: str
) -> None:
    if make_learner_of_case is make_banned:
        settings.USHER_ADAPTER = f"{__name__}.BannedLearners"
    user = make_learner_of_case()
    row = enroll(user, ensure_run(DEMO), reconcile_now=True)
    assert (row.error_code, row.error_message) == (code, message)
    assert row.refused_at is None
    assert user.lms_token.error_code in ("", code)

    # Ends each of the reasons.
    settings.USHER_ADAPTER = ""
    EmailAddress.objects.filter(user=user).update(verified=True)
    user.is_active = True
    user.save()
    LmsAccount.objects.filter(user=user).make_due()
    reconcile()
    row.refresh_from_db()
    assert row.is_settled, row.error_message


@FOR_EACH_REASON
def test_an_enrollment_reports_the_reason_before_a_worker_has_claimed_the_account(
    system: Any, settings: Any, make_learner_of_case: Any, code: str, message: str
) -> None:
    if make_learner_of_case is make_banned:
        settings.USHER_ADAPTER = f"{__name__}.BannedLearners"
    row = enroll(make_learner_of_case(), ensure_run(DEMO))
    reconcile(["enrollment"])
    row.refresh_from_db()
    assert (row.error_code, row.error_message) == (code, message)


def test_an_enrollment_reports_that_the_lms_refused_the_account(system: Any) -> None:
    user = system.learner()
    # Another account in the LMS has the learner's e-mail address.
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.create(username='x{user.pk}{user.username}', email={user.email!r})"
    )
    row = enroll(user, ensure_run(DEMO), reconcile_now=True)
    account = user.lms_account
    assert account.refused_at
    assert row.error_code == "account-refused"
    assert row.error_message.endswith(f"It was refused: {account.error_message}")


@pytest.mark.parametrize(
    ("code", "account_message", "reason"),
    [
        ("http-500", "The LMS answered 500.", "The last attempt failed: The LMS answered 500."),
        ("circuit-open", "Not sent, because it failed.", "Not sent, because it failed."),
    ],
)
def test_an_enrollment_reports_the_last_failure_of_the_account(
    system: Any, code: str, account_message: str, reason: str
) -> None:
    user = system.learner()
    LmsAccount.objects.filter(pk=ensure_account(user).pk).set_work(
        error_code=code, error_message=account_message, attempts=1
    )
    row = enroll(user, ensure_run(DEMO))
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert row.error_code == "no-account"
    assert row.error_message == (
        f"The record waits until the learner's LMS account is created. {reason}"
    )


def test_a_waiting_enrollment_reports_a_later_refusal_of_the_account(system: Any) -> None:
    user = system.learner()
    # Another account in the LMS has the learner's e-mail address.
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.create(username='y{user.pk}{user.username}', email={user.email!r})"
    )
    row = enroll(user, ensure_run(DEMO))
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert row.error_code == "no-account"
    reconcile(["account"])
    reconcile(["enrollment"])
    row.refresh_from_db()
    assert row.error_code == "account-refused"
