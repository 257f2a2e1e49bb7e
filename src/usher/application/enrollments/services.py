"""Enrollments: the functions that the rest of an application calls."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from usher.application.accounts.services import ensure_account
from usher.application.arguments import require_mode, require_run, require_user
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.modes import ModeNotAllowed, check_mode, choose_mode
from usher.application.runs.models import CourseRun
from usher.engine.clock import moment
from usher.engine.lanes import current_lane
from usher.engine.models import refresh_unless_deleted
from usher.engine.notify import notify_workers
from usher.engine.transactions import refuse_reconcile_now

__all__ = [
    "ModeNotAllowed",
    "NotEnrolled",
    "change_mode",
    "enroll",
    "reconcile_enrollment",
    "unenroll",
]


class NotEnrolled(LookupError):
    """The learner has no enrollment in that run."""


def enroll(
    user: Any,
    run: CourseRun,
    mode: str = "",
    *,
    force: bool = False,
    reconcile_now: bool = False,
) -> Enrollment:
    """Saves that the learner is to be enrolled, and makes the row due; a worker enrolls them in the
    LMS. Safe to repeat.

    mode: '' keeps the mode of an active enrollment, else chooses a free mode of the run. force:
    enroll even when enrollment is closed in the LMS, and in a mode that is not known.
    reconcile_now: also enroll in the LMS before returning; ``is_settled`` and ``error_message`` say
    whether that succeeded. Raises ModeNotAllowed, the errors of ``ensure_account``, and
    InTransaction for ``reconcile_now`` within a transaction.
    """
    require_user(user)
    require_run(run)
    require_mode(mode)
    if reconcile_now:
        refuse_reconcile_now()
    enrollment = Enrollment.objects.filter(user=user, run=run).first()
    if not mode and enrollment is not None and enrollment.is_active:
        mode = enrollment.mode
    if not mode:
        mode = choose_mode(user, run)
    elif not force:
        check_mode(user, run, mode)
    ensure_account(user)
    values = {"mode": mode, "is_active": True, "force": force}
    row = _create(user, run, values) if enrollment is None else _change_or_create(user, run, values)
    return reconcile_enrollment(row) if reconcile_now else row


def unenroll(user: Any, run: CourseRun, *, reconcile_now: bool = False) -> Enrollment:
    """Saves that the learner is to be unenrolled, and makes the row due. reconcile_now: as for
    ``enroll``. Raises NotEnrolled when there is no row, and InTransaction as ``enroll``."""
    require_user(user)
    require_run(run)
    if reconcile_now:
        refuse_reconcile_now()
    row = _change(user, run, is_active=False)
    return reconcile_enrollment(row) if reconcile_now else row


def change_mode(user: Any, run: CourseRun, mode: str, *, reconcile_now: bool = False) -> Enrollment:
    """Saves that an enrollment is to have another mode, and makes the row due. reconcile_now: as
    for ``enroll``. Raises NotEnrolled unless there is an active enrollment, ModeNotAllowed, and
    InTransaction as ``enroll``."""
    require_user(user)
    require_run(run)
    if reconcile_now:
        refuse_reconcile_now()
    check_mode(user, run, mode)
    row = _change(user, run, only_active=True, mode=mode)
    return reconcile_enrollment(row) if reconcile_now else row


def _create(user: Any, run: CourseRun, values: dict[str, Any]) -> Enrollment:
    """Creates the row; if another request has just created it, changes that row."""
    row = Enrollment(user=user, run=run, **values).with_work(lane=current_lane())
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            notify_workers(user.pk)
    except IntegrityError:
        return _change(user, run, **values)
    return row


def _change_or_create(user: Any, run: CourseRun, values: dict[str, Any]) -> Enrollment:
    """Changes the row; if it was deleted in the meantime, creates it again."""
    try:
        return _change(user, run, **values)
    except NotEnrolled:
        return _create(user, run, values)


def _change(user: Any, run: CourseRun, *, only_active: bool = False, **values: Any) -> Enrollment:
    """Changes the desired values of the enrollment's row. Raises NotEnrolled if there is no row, or
    with ``only_active`` if the enrollment has ended."""
    with transaction.atomic():
        # ``now`` is the database's time, which ``want`` would otherwise query.
        rows = Enrollment.objects.select_for_update().annotate(now=moment())
        try:
            row = rows.get(user=user, run=run)
        except Enrollment.DoesNotExist as error:
            raise NotEnrolled(f"{user} is not enrolled in {run.course_key}.") from error
        if only_active and not row.is_active:
            raise NotEnrolled(f"The enrollment of {user} in {run.course_key} has ended.")
        row.want(row.now, **values)
        return row


def reconcile_enrollment(row: Enrollment) -> Enrollment:
    """Sends this enrollment to the LMS now, after creating the account if needed. Returns the
    updated row; if the row was deleted meanwhile, for example because a receiver of a signal
    deleted the learner, returns the row from before. Raises InTransaction within a transaction."""
    from usher.engine.services import reconcile

    if not isinstance(row, Enrollment):
        raise TypeError(
            f"row must be an Enrollment, not {type(row).__name__}: {row!r}. "
            "Get one with Enrollment.objects.get(user=user, run=run)."
        )
    ensure_account(row.user, reconcile_now=True)
    Enrollment.objects.filter(pk=row.pk).unsettled().make_due(lane=current_lane())
    made_due = {"enrollment": Q(pk=row.pk)}
    reconcile(["enrollment"], user=row.user, related_to=row.run, made_due=made_due)
    refresh_unless_deleted(row)
    return row
