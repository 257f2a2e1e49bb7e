"""A learner reads the same text for the same state everywhere."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.models import Enrollment
from usher.application.learner_texts import of_account, of_enrollment
from usher.application.runs.models import CourseRun

NOW = timezone.now()
OLD = NOW - timedelta(hours=1)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the clock at ``NOW``, the time at which pytest collected this file. Tests may run much
    later."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def account(**values: Any) -> LmsAccount:
    return LmsAccount(**{"username": "ada", "reserved_at": NOW, "due_at": NOW, **values})


def enrollment(**values: Any) -> Enrollment:
    return Enrollment(**{"created_at": NOW, "due_at": NOW, **values})


MADE = account(created_in_lms_at=NOW, observed_generation=1)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (None, "preparing"),
        (account(), "preparing"),
        (account(attempts=3, error_code="x"), "preparing"),
        (account(attempts=3, error_code="x", reserved_at=OLD), "late"),
        (account(refused_at=NOW, error_code="validation-error"), "refused"),
        (MADE, "ready"),
        (account(created_in_lms_at=NOW, observed_is_active=False), "closed"),
    ],
)
def test_accounts(row: LmsAccount | None, state: str) -> None:
    status = of_account(row)
    assert status.state == state
    assert bool(status.text) is not status.is_ready


@pytest.mark.parametrize(
    ("row", "of", "state"),
    [
        (enrollment(), MADE, "preparing"),
        (enrollment(), None, "preparing"),
        (enrollment(attempts=1, error_code="x"), MADE, "preparing"),
        (enrollment(attempts=9, error_code="x", created_at=OLD), MADE, "late"),
        (enrollment(refused_at=NOW, error_code="x"), MADE, "refused"),
        (enrollment(observed_is_active=True, observed_generation=1), MADE, "ready"),
        (
            enrollment(observed_is_active=True, run=CourseRun(pk=1, missing_since=NOW)),
            MADE,
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
def test_enrollments(row: Enrollment, of: LmsAccount | None, state: str) -> None:
    text = of_enrollment(row, of)
    assert text.state == state
    assert bool(text.text) is not text.is_ready


def test_an_unenrolled_learner_does_not_read_that_they_are_enrolled() -> None:
    assert of_enrollment(enrollment(is_active=False, observed_is_active=True), MADE).label == (
        "Leaving"
    )


def test_an_address_that_is_not_confirmed_is_named() -> None:
    row = account(error_code="unconfirmed")
    assert "confirmed your e-mail address" in of_account(row).text
    assert of_enrollment(enrollment(error_code="no-account"), row) == of_account(row)


def test_an_address_that_is_taken_is_named() -> None:
    row = account(refused_at=NOW, error_code="duplicate-email-username", error_message="LMS words")
    text = of_account(row).text
    assert "e-mail address already exists" in text
    assert "LMS words" not in text


def test_a_learner_whose_change_of_mode_is_refused_reads_that_and_can_open_the_course() -> None:
    text = of_enrollment(enrollment(refused_at=NOW, error_code="x", observed_is_active=True), MADE)
    assert text.is_ready
    assert "could not be changed yet" in text.text
    changing = of_enrollment(enrollment(observed_is_active=True, attempts=1), MADE)
    assert (changing.state, changing.text) == ("ready", "")


def test_a_learner_who_could_not_be_unenrolled_does_not_read_that_it_happens_now() -> None:
    leaving = enrollment(is_active=False, observed_is_active=True)
    assert of_enrollment(leaving, MADE).text == "You are being unenrolled."
    leaving = enrollment(is_active=False, observed_is_active=True, refused_at=NOW, error_code="x")
    text = of_enrollment(leaving, MADE)
    assert (text.needs_staff, text.text[:31]) == (True, "You could not be unenrolled yet")
