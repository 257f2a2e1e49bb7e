"""A learner reads the same text for the same state everywhere."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from usher.application import learner_texts
from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun

NOW = timezone.now()
AN_HOUR_AGO = NOW - timedelta(hours=1)


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the clock at ``NOW``, the time at which pytest collected this file. Tests may run much
    later."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def account(**values: Any) -> LmsAccount:
    """An account that is not saved. Without other values, it is due and was never sent."""
    return LmsAccount(**{"username": "ada", "reserved_at": NOW, "due_at": NOW, **values})


def enrollment(**values: Any) -> Enrollment:
    """An enrollment that is not saved. Without other values, it is due and was never sent."""
    return Enrollment(**{"created_at": NOW, "due_at": NOW, **values})


CREATED_ACCOUNT = account(created_in_lms_at=NOW, observed_generation=1)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (None, "preparing"),  # no account was requested
        (account(), "preparing"),
        (account(attempts=3, error_code="x"), "preparing"),
        (account(attempts=3, error_code="x", reserved_at=AN_HOUR_AGO), "late"),
        (account(refused_at=NOW, error_code="validation-error"), "refused"),
        (CREATED_ACCOUNT, "ready"),
        (account(created_in_lms_at=NOW, observed_is_active=False), "closed"),
    ],
)
def test_the_state_of_an_account_for_its_learner(row: LmsAccount | None, state: str) -> None:
    status = learner_texts.of_account(row)
    assert status.state == state
    # Only the state ``ready`` has no text.
    assert bool(status.text) is not status.is_ready


@pytest.mark.parametrize(
    ("row", "account_of_learner", "state"),
    [
        (enrollment(), CREATED_ACCOUNT, "preparing"),
        (enrollment(), None, "preparing"),
        (enrollment(attempts=1, error_code="x"), CREATED_ACCOUNT, "preparing"),
        (enrollment(attempts=9, error_code="x", created_at=AN_HOUR_AGO), CREATED_ACCOUNT, "late"),
        (enrollment(refused_at=NOW, error_code="x"), CREATED_ACCOUNT, "refused"),
        (enrollment(observed_is_active=True, observed_generation=1), CREATED_ACCOUNT, "ready"),
        (
            enrollment(observed_is_active=True, run=CourseRun(pk=1, missing_since=NOW)),
            CREATED_ACCOUNT,
            "closed",
        ),
        (enrollment(), account(refused_at=NOW, error_code="duplicate-email"), "refused"),
        (
            enrollment(observed_is_active=True),
            account(created_in_lms_at=NOW, observed_is_active=False),
            "closed",
        ),
    ],
)
def test_the_state_of_an_enrollment_for_its_learner(
    row: Enrollment, account_of_learner: LmsAccount | None, state: str
) -> None:
    status = learner_texts.of_enrollment(row, account_of_learner)
    assert status.state == state
    assert bool(status.text) is not status.is_ready


def test_an_enrollment_that_is_being_ended_has_the_label_leaving() -> None:
    leaving = enrollment(is_active=False, observed_is_active=True)
    assert learner_texts.of_enrollment(leaving, CREATED_ACCOUNT).label == "Leaving"


def test_the_text_asks_to_confirm_an_unconfirmed_email_address() -> None:
    row = account(error_code="unconfirmed")
    status = learner_texts.of_account(row)
    assert "confirmed your e-mail address" in status.text
    waiting = enrollment(error_code="no-account")
    assert learner_texts.of_enrollment(waiting, row) == status


def test_the_text_says_that_the_email_address_is_taken_without_the_lms_s_words() -> None:
    row = account(refused_at=NOW, error_code="duplicate-email-username", error_message="LMS words")
    text = learner_texts.of_account(row).text
    assert "e-mail address already exists" in text
    assert "LMS words" not in text


def test_the_text_says_that_a_change_of_mode_was_refused_and_the_course_can_be_opened() -> None:
    refused = enrollment(refused_at=NOW, error_code="x", observed_is_active=True)
    status = learner_texts.of_enrollment(refused, CREATED_ACCOUNT)
    assert status.is_ready
    assert "could not be changed yet" in status.text
    changing = enrollment(observed_is_active=True, attempts=1)
    status = learner_texts.of_enrollment(changing, CREATED_ACCOUNT)
    assert (status.state, status.text) == ("ready", "")


def test_the_text_says_that_unenrolling_was_refused() -> None:
    leaving = enrollment(is_active=False, observed_is_active=True)
    status = learner_texts.of_enrollment(leaving, CREATED_ACCOUNT)
    assert status.text == "You are being unenrolled."
    refused = enrollment(is_active=False, observed_is_active=True, refused_at=NOW, error_code="x")
    status = learner_texts.of_enrollment(refused, CREATED_ACCOUNT)
    assert status.needs_staff
    assert status.text.startswith("You could not be unenrolled yet")
