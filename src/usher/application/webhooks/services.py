"""Processes webhook messages of the LMS.

A message only makes rows due; the engine then reads the state from the LMS. So a forged, late or
repeated message cannot write wrong values.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Lower
from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.adoption import adopt
from usher.application.enrollments.models import Enrollment
from usher.application.records.models import Certificate, Grade
from usher.application.runs.services import refresh_soon, runs_of
from usher.application.webhooks.models import ReceivedEvent
from usher.contract.signatures import TOLERANCE_SECONDS


def process_message(event_id: str, kind: str, username: str, course_id: str) -> bool:
    """Makes due the rows that the message is about. Returns False for a message that was processed
    before.

    event_id: the message's id. kind: such as ``enrollment.changed``. username, course_id: '' where
    the message has none. Messages of unknown kinds or about unknown learners count as processed,
    so that the LMS does not send them again.
    """
    with transaction.atomic():
        # An IntegrityError of a handler must not count as a repeated message: it ends the request
        # with an error, so that the LMS sends the message again.
        _, is_new = ReceivedEvent.objects.get_or_create(event_id=event_id)
        handle = _HANDLERS.get(kind) if is_new else None
        if handle is not None:
            handle(username, course_id)
    return is_new


def seen_messages_to_forget() -> QuerySet[ReceivedEvent]:
    """The rows of messages that are too old to be accepted again."""
    # Longer than a signature is accepted: ``TOLERANCE_SECONDS`` before and after its time.
    too_old = timezone.now() - timedelta(seconds=4 * TOLERANCE_SECONDS)
    return ReceivedEvent.objects.filter(received_at__lt=too_old)


def _account_changed(username: str, _course_key: str) -> None:
    # An account that was refused before it was created can't have changed in the LMS.
    may_exist = Q(work__refused_at__isnull=True) | Q(created_in_lms_at__isnull=False)
    ids = [account.pk for account in _accounts_of(username)]
    LmsAccount.objects.filter(may_exist, pk__in=ids).compare_again()


def _enrollment_changed(username: str, course_key: str) -> None:
    for account in _accounts_of(username):
        rows = Enrollment.objects.filter(user_id=account.user_id, run__course_key=course_key)
        if not rows.exists():  # the enrollment was created in the LMS
            adopt([(account.username, course_key)])
        rows.compare_again()


def _accounts_of(username: str) -> list[LmsAccount]:
    """A list of the one account with that username, ignoring case; empty if there is none.
    ``Lower`` makes the query use the index."""
    by_lower_username = LmsAccount.objects.alias(lower=Lower("username"))
    return list(by_lower_username.filter(lower=Lower(Value(username))))


def _handler_that_rechecks(model: Any) -> Callable[[str, str], None]:
    """A handler that makes due the learner's grade or certificate in the run, whose row it creates
    if necessary."""

    def handle(username: str, course_key: str) -> None:
        run = runs_of([course_key]).get(course_key)
        for account in _accounts_of(username) if run else ():
            model.objects.get_or_create(user_id=account.user_id, run=run)
            model.objects.filter(user_id=account.user_id, run=run).compare_again()

    return handle


def _run_changed(_username: str, course_key: str) -> None:
    refresh_soon(course_key)


#: Kind of message → its handler, which takes the username and the course key.
_HANDLERS: dict[str, Callable[[str, str], None]] = {
    "account.changed": _account_changed,
    "enrollment.changed": _enrollment_changed,
    "grade.changed": _handler_that_rechecks(Grade),
    "certificate.changed": _handler_that_rechecks(Certificate),
    "course_run.changed": _run_changed,
}
