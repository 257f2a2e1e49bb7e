"""Asks an LMS that has ``usher.lms`` what changed there, so that a lost message loses nothing.

Only where both sides differ is a row made due; what is right then is the row's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.engine.models import Watermark
from usher.application.engine.options import options
from usher.application.enrollments.models import Enrollment
from usher.application.lms_client import client
from usher.application.runs.models import CourseRun, RunModes
from usher.application.runs.services import ensure_run
from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import moment, reading

#: How far back the first look goes, and how often is looked at most.
FIRST_LOOK = timedelta(minutes=10)
NOT_BEFORE = timedelta(seconds=45)

Items = Sequence[dict[str, Any]]


def pull_changes() -> int:
    """How many rows were made due. 0 where the LMS has no batch road, or can't be asked now."""
    lms = client()
    if not options().batch_road:
        return 0
    offered = batch.capabilities(lms)
    try:
        return sum(_pull(what, wake) for what, wake in _WAKES.items() if what in offered)
    except LmsError:
        return 0  # the watermark stays where it was: the next sweep asks again


def _pull(what: str, wake: Callable[[Items], int]) -> int:
    now = timezone.now()
    mark = Watermark.objects.filter(what=what).first()
    if mark is not None and now - mark.asked_at < NOT_BEFORE:
        return 0
    since: datetime | None = moment(mark.since) if mark else now - FIRST_LOOK
    woken, cursor, following = 0, "", ""
    while True:
        items, cursor, then = batch.changed_since(client(), what, since, cursor)
        # The first page's moment: what changes while the others are read comes the next time.
        following = following or then
        woken += reading("changes", partial(wake, items))
        if not cursor:
            break
    Watermark.objects.update_or_create(what=what, defaults={"since": following, "asked_at": now})
    return woken


def _accounts(items: Items) -> int:
    seen = {str(item["username"]): bool(item["is_active"]) for item in items}
    rows = LmsAccount.objects.filter(username__in=seen, created_in_lms_at__isnull=False)
    differing = [row.pk for row in rows if row.is_active != seen[row.username]]
    return LmsAccount.objects.filter(pk__in=differing, parked_at__isnull=True).wake()


def _enrollments(items: Items) -> int:
    seen = {
        (str(item["username"]), str(item["course_id"])): (item["mode"], bool(item["is_active"]))
        for item in items
    }
    rows = Enrollment.objects.filter(
        user__lms_account__username__in={name for name, _ in seen},
        run__course_key__in={key for _, key in seen},
        parked_at__isnull=True,
    ).select_related("run", "user__lms_account")
    differing = []
    for row in rows:
        found = seen.get((row.user.lms_account.username, row.run.course_key))
        if found and found != (row.mode if row.is_active else found[0], row.is_active):
            differing.append(row.pk)
    return Enrollment.objects.filter(pk__in=differing).wake()


def _runs(items: Items) -> int:
    """Runs here are looked at again by the course list, which is what they follow."""
    keys = [str(item["course_id"]) for item in items]
    known = set(CourseRun.objects.filter(course_key__in=keys).values_list("course_key", flat=True))
    for key in keys:
        if key not in known:
            ensure_run(key)
    RunModes.objects.filter(run__course_key__in=known).wake()
    return CourseRun.objects.filter(course_key__in=known).wake()


_WAKES: dict[str, Callable[[Items], int]] = {
    batch.ACCOUNTS: _accounts,
    batch.ENROLLMENTS: _enrollments,
    batch.COURSE_RUNS: _runs,
}
