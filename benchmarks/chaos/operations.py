"""Operations of learners and staff, through the services that an application calls."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import Max
from django.utils import timezone

from benchmarks.chaos.journal import EnrollmentState, Journal
from benchmarks.services import control
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, refresh_soon
from usher.application.tokens.models import LmsToken
from usher.engine.registry import all_kinds
from usher.engine.work import Work

MODES = ("audit", "verified")
#: Kinds that the operations touch.
KINDS = ("account", "token", "run", "enrollment")
#: A run that the LMS does not have.
UNKNOWN_RUN = "course-v1:BenchX+Nowhere+2026_T1"
#: How long an operation is repeated after database errors.
_GIVE_UP_SECONDS = 120.0

journal = Journal()
_random = random.Random()
_lms_url = ""


def begin(seed: int, lms_url: str, runs: list[str], strangers: int) -> None:
    """Prepares the application, the LMS and the journal for ``perform``.

    runs: course keys of the LMS. strangers: number of LMS accounts to create for other people;
    some learners will have the same e-mail addresses.
    """
    global _lms_url
    _random.seed(seed)
    _lms_url = lms_url
    for key in runs:
        ensure_run(key)
        journal.titles[key] = ""
    for number in range(strangers):
        control(lms_url, "stranger", username=f"stranger{number}", email=_email_of_stranger(number))
    threading.Thread(target=_watch_attempts, daemon=True).start()


def perform(count: int) -> dict[str, int]:
    """Performs ``count`` operations, one after the other. Repeats an operation after a database
    error, as a user would; after two minutes, raises the error."""
    for _ in range(count):
        journal.operations += 1
        _perform_until_done(_plan_operation())
    return {"operations": journal.operations, "repeated": journal.repeated}


def _plan_operation() -> Callable[[], None]:
    """Draws an operation and records its desired state in the journal. Returns a function that
    performs the operation; it may be called again after an error."""
    if len(journal.learners) < 5:  # the other operations need learners
        return _plan_sign_up()
    plans = (
        _plan_sign_up,
        _plan_enrollment,
        _plan_unenrollment,
        _plan_mode_change,
        _plan_token_expiry,
        _plan_new_title_of_run,
        _plan_refused_operation,
    )
    percentages = (17, 36, 12, 14, 10, 9, 2)
    (plan_operation,) = _random.choices(plans, weights=percentages)
    return plan_operation()


def _perform_until_done(perform_operation: Callable[[], None]) -> None:
    """Repeats the operation after a DatabaseError; raises the error after ``_GIVE_UP_SECONDS``."""
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            close_old_connections()
            perform_operation()
            return
        except DatabaseError:
            journal.repeated += 1
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _email_of_stranger(number: int) -> str:
    return f"stranger{number}@strangers.example"


def _make_learner(username: str, email: str) -> None:
    """Creates a user and the account's row in one transaction, as a sign-up does."""
    with transaction.atomic():
        user, _ = get_user_model().objects.get_or_create(
            username=username, defaults={"email": email, "name": f"Name {username}"}
        )
        ensure_account(user)


def _plan_sign_up() -> Callable[[], None]:
    username = f"learner{len(journal.learners)}"
    email = f"{username}@learners.example"
    journal.learners[username] = email
    return lambda: _make_learner(username, email)


def _plan_enrollment() -> Callable[[], None]:
    username, key = _random.choice(list(journal.learners)), _random.choice(list(journal.titles))
    # The journal expects this enrollment to stay refused, so another operation is planned.
    if ("enrollment", f"{username} in {key}") in journal.refused:
        return _plan_sign_up()
    mode = _random.choice(MODES)
    journal.enrollments[username, key] = EnrollmentState(mode, is_active=True)
    return lambda: _enroll(username, key, mode)


def _enroll(username: str, key: str, mode: str) -> None:
    user = get_user_model().objects.get(username=username)
    enroll(user, CourseRun.objects.get(course_key=key), mode)


def _plan_unenrollment() -> Callable[[], None]:
    """Plans to end an enrollment. If there is none so far, plans an enrollment instead."""
    if not journal.enrollments:
        return _plan_enrollment()
    username, key = _random.choice(list(journal.enrollments))
    mode = journal.enrollments[username, key].mode
    journal.enrollments[username, key] = EnrollmentState(mode, is_active=False)
    return lambda: _change_enrollment(unenroll, username, key)


def _plan_mode_change() -> Callable[[], None]:
    """Plans to change the mode of an active enrollment. If there is none so far, plans an
    enrollment instead."""
    active = [pair for pair, desired in journal.enrollments.items() if desired.is_active]
    if not active:
        return _plan_enrollment()
    username, key = _random.choice(active)
    mode = _random.choice(MODES)
    journal.enrollments[username, key] = EnrollmentState(mode, is_active=True)
    return lambda: _change_enrollment(change_mode, username, key, mode)


def _change_enrollment(
    perform_operation: Callable[..., Any], username: str, key: str, *mode: str
) -> None:
    """Calls ``unenroll``, or ``change_mode`` with a mode."""
    user = get_user_model().objects.get(username=username)
    perform_operation(user, CourseRun.objects.get(course_key=key), *mode)


def _plan_token_expiry() -> Callable[[], None]:
    """A learner's token expires, and must be renewed; the journal does not change."""
    username = _random.choice(list(journal.learners))

    def perform_operation() -> None:
        rows = LmsToken.objects.filter(user__username=username, expires_at__isnull=False)
        rows.update(expires_at=timezone.now())
        rows.make_due()

    return perform_operation


def _plan_new_title_of_run() -> Callable[[], None]:
    """Staff of the LMS rename a run, and the LMS sends a webhook."""
    key = _random.choice(list(journal.titles))
    title = f"Course of {journal.operations}"
    journal.titles[key] = title

    def perform_operation() -> None:
        control(_lms_url, "rename", key=key, title=title)
        refresh_soon(key)

    return perform_operation


def _plan_refused_operation() -> Callable[[], None]:
    """An operation that the LMS always refuses. In the end the operation's row must be
    refused, with a reason."""
    username = _random.choice(list(journal.learners))
    refused_because_of = _random.choice(("unknown run", "mode", "stranger"))
    if refused_because_of == "stranger":
        return _plan_sign_up_with_address_of_stranger()
    if refused_because_of == "unknown run":
        return _plan_refused_enrollment(username, UNKNOWN_RUN, mode="audit")
    other_runs = [key for key in journal.titles if (username, key) not in journal.enrollments]
    if not other_runs:
        return _plan_enrollment()
    return _plan_refused_enrollment(username, _random.choice(other_runs), mode="masters")


def _plan_sign_up_with_address_of_stranger() -> Callable[[], None]:
    """A learner signs up with the e-mail address that an LMS account of somebody else has."""
    # How many such learners there are already, so that each has its own name and address.
    number = sum(row_kind == "account" for row_kind, _ in journal.refused)
    journal.refused.add(("account", f"twin{number}"))
    return lambda: _make_learner(f"twin{number}", _email_of_stranger(number))


def _plan_refused_enrollment(username: str, key: str, mode: str) -> Callable[[], None]:
    """An enrollment with a run or a mode that the LMS does not have. If it was planned before,
    plans another enrollment instead."""
    name = f"{username} in {key}"
    if ("enrollment", name) in journal.refused:
        return _plan_enrollment()
    journal.refused.add(("enrollment", name))

    def perform_operation() -> None:
        ensure_run(key)
        with transaction.atomic():
            _enroll(username, key, "audit")
            if mode != "audit":  # as if the run no longer offered the mode that the learner chose
                row = Enrollment.objects.get(user__username=username, run__course_key=key)
                row.want(mode=mode)

    return perform_operation


# Unfinished rows


def _watch_attempts() -> None:
    """Records the most attempts of any row while the operations run, because a success resets the
    row's attempts."""
    while True:
        with suppress(DatabaseError):
            close_old_connections()
            attempts = Work.objects.aggregate(most=Max("attempts"))["most"] or 0
            journal.max_attempts = max(journal.max_attempts, attempts)
        time.sleep(0.5)


def count_unfinished() -> dict[str, int]:
    """Kind and error → number of rows that are due now, or due later and not in sync."""
    counts: Counter[str] = Counter()
    for name in KINDS:
        manager = all_kinds()[name].model._default_manager
        waiting = manager.filter(work__due_at__isnull=False)
        due = waiting.filter(work__due_at__lte=timezone.now())
        unfinished = waiting.unsettled() | due
        for code, message in unfinished.values_list("work__error_code", "work__error_message"):
            reason = f"{code}: {message}" if code == "internal-error" else code
            counts[f"{name} {reason}".strip()] += 1
    return dict(counts)


def retry_waiting() -> int:
    """Makes rows due that wait for their next attempt, as the admin's *Retry in background* does.
    Returns their number."""
    now = timezone.now()
    return sum(
        all_kinds()[name].model._default_manager.filter(work__due_at__gt=now).unsettled().make_due()
        for name in KINDS
    )


def sweep_twice() -> None:
    """Sends two sweeps to the workers at the same time. Broker errors are ignored, since later
    sweeps find the same rows."""
    from kombu.exceptions import OperationalError

    from usher.engine.tasks import sweep

    with suppress(OperationalError):
        for _ in range(2):
            sweep.apply_async(retry=False, expires=20)


def all_enrollments() -> Any:
    return Enrollment.objects.select_related("user", "run")
