"""Reads the list of changes from an LMS that has ``usher.lms``, since webhooks can be lost.

A row is made due if its desired state differs from the LMS's. The row's kind then decides which of
the two states is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import retry_refused_without_batch_api
from usher.application.enrollments import adoption
from usher.application.enrollments.models import Enrollment
from usher.application.lms.options import options
from usher.application.lms_client import client
from usher.application.metrics import engine as metrics
from usher.application.runs.models import CourseRun, RunModes
from usher.application.runs.services import UnknownRun, ensure_run
from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import moment, reading
from usher.engine.models import Watermark
from usher.engine.outages import outages
from usher.engine.registry import other_system

#: The time before the first request whose changes that request asks for, and the shortest time
#: between two requests.
_FIRST_PERIOD = timedelta(minutes=10)
_MIN_INTERVAL = timedelta(seconds=45)

#: The name of this work in the log.
_WORK = "reading the changes in the LMS"

Items = Sequence[dict[str, Any]]
T = TypeVar("T")

log = logging.getLogger(__name__)


def pull_changes() -> int:
    """Creates rows for enrollments that were made in the LMS. With the batch API, also makes due
    the rows that changed in the LMS, and those that were refused while the LMS had no batch API.
    Returns how many rows in all. Logs errors of the LMS and does not raise them.
    """
    lms = client()
    count = adoption.adopt_next_learners()
    if not options().use_batch_api:
        return count
    capabilities = batch.capabilities(lms) or frozenset()
    if batch.ACCOUNTS in capabilities:
        count += retry_refused_without_batch_api()
    try:
        if capabilities and (outbox := batch.outbox(lms)):
            # The messages that the LMS has not delivered to this application yet.
            count_of_messages, oldest_seconds = outbox
            metrics.record_outbox(count_of_messages, oldest_seconds)
        for capability, make_due in _MAKE_DUE.items():
            if capability in capabilities:
                count += _pull(capability, make_due)
    except LmsError as error:
        # The watermark is unchanged, so the next sweep asks for the same changes.
        outages.record_failure(_WORK, error, lms.http.state, other_system())
        return count
    if capabilities:
        outages.record_success(_WORK, lms.http.state)
    return count


def _pull(capability: str, make_due: Callable[[Items], int]) -> int:
    """Reads one list of changes since its watermark, and moves the watermark. Returns how many rows
    were made due; 0 without a request if the list was read a short time ago."""
    now = timezone.now()
    watermark = Watermark.objects.filter(name=capability).first()
    if watermark is not None and now - watermark.asked_at < _MIN_INTERVAL:
        return 0
    since: datetime | None = moment(watermark.since) if watermark else now - _FIRST_PERIOD
    count, next_since = 0, ""
    for page in batch.pages_of_changes(client(), capability, since):
        # The first page's time, so that the next call also reads changes made during this call.
        next_since = next_since or page.next_since
        # ``reading`` raises BadAnswer for malformed items.
        count += reading("changes", partial(make_due, page.changed_objects))
    Watermark.objects.update_or_create(
        name=capability, defaults={"since": next_since, "asked_at": now}
    )
    return count


def _make_accounts_due(items: Items) -> int:
    """Makes due the accounts that are active only here or only in the LMS, except refused ones.
    Returns how many."""
    active_by_username = dict(
        _read_each(items, lambda item: (_text(item["username"]), bool(item["is_active"])))
    )
    rows = LmsAccount.objects.filter(
        username__in=active_by_username, created_in_lms_at__isnull=False
    )
    differing = [row.pk for row in rows if row.is_active != active_by_username[row.username]]
    return LmsAccount.objects.filter(pk__in=differing, work__refused_at__isnull=True).make_due()


def _make_enrollments_due(items: Items) -> int:
    """Makes due the enrollments that differ, except refused ones, and records enrollments that were
    created in the LMS. Returns how many there are of both."""
    enrollments = dict(_read_each(items, _read_enrollment))
    rows = Enrollment.objects.filter(
        user__lms_account__username__in={name for name, _ in enrollments},
        run__course_key__in={key for _, key in enrollments},
        work__refused_at__isnull=True,
    ).select_related("run", "user__lms_account")
    differing = []
    for row in rows:
        lms_state = enrollments.get((row.user.lms_account.username, row.run.course_key))
        if lms_state is None:
            continue
        mode, is_active = lms_state
        if is_active != row.is_active or (is_active and mode != row.mode):
            differing.append(row.pk)
    adopted = adoption.adopt(pair for pair, (_, is_active) in enrollments.items() if is_active)
    return Enrollment.objects.filter(pk__in=differing).make_due() + adopted


def _read_enrollment(item: dict[str, Any]) -> tuple[tuple[str, str], tuple[str, bool]]:
    """Username and course key; mode, and whether the enrollment is active."""
    pair = _text(item["username"]), _text(item["course_id"])
    return pair, (_text(item["mode"]), bool(item["is_active"]))


def _make_runs_due(items: Items) -> int:
    """Makes known runs and their modes due, and adds unknown runs. Returns how many runs were made
    due."""
    keys = _read_each(items, lambda item: _text(item["course_id"]))
    known_keys = set(
        CourseRun.objects.filter(course_key__in=keys).values_list("course_key", flat=True)
    )
    for key in keys:
        if key not in known_keys:
            try:
                ensure_run(key)
            except UnknownRun as error:
                log.warning("A run that changed in the LMS is left out: %s", error)
    RunModes.objects.filter(run__course_key__in=known_keys).make_due()
    return CourseRun.objects.filter(course_key__in=known_keys).make_due()


def _read_each(items: Items, read: Callable[[dict[str, Any]], T]) -> list[T]:
    """The result of ``read`` for each item. Logs and leaves out items that cannot be read."""
    values = []
    for item in items:
        try:
            values.append(reading("a change", partial(read, item)))
        except LmsError as error:
            log.warning("A change in the LMS is left out: %s", error.message)
    return values


def _text(value: Any) -> str:
    """``value`` if it is a text that the database can store. Raises ValueError for anything else,
    such as a text with NUL or with halves of surrogate pairs."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not a text that can be stored")
    value.encode()  # UnicodeEncodeError is a ValueError
    return value


#: Capability of the batch API → what to do with the items of its list of changes.
_MAKE_DUE: dict[str, Callable[[Items], int]] = {
    batch.ACCOUNTS: _make_accounts_due,
    batch.ENROLLMENTS: _make_enrollments_due,
    batch.COURSE_RUNS: _make_runs_due,
}
