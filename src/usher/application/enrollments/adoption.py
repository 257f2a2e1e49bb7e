"""Records enrollments that were created in the LMS, for example by an instructor.

For each such enrollment, this creates a row that has no mode, counts as in sync and is due. The
engine then reads the enrollment from the LMS and saves it in the row, or deletes the row if there
is no such enrollment. From then on the row is an enrollment like any other. If its state later
differs between the application and the LMS, ``USHER_ENROLLMENT_WINNER`` decides. With
``USHER_ADOPT_ENROLLMENTS = False`` such enrollments are not recorded; ``drift`` lists them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.models import Enrollment
from usher.application.lms.options import options
from usher.application.lms_client import client
from usher.application.runs.services import UnknownRun, ensure_run, runs_of
from usher.client.client import NAMES_A_REQUEST
from usher.client.errors import LmsError
from usher.engine.models import Watermark

#: Username in the LMS and course key.
Pair = tuple[str, str]
#: The name of the watermark that has the id of the last account whose enrollments were read.
LISTED = "enrollments-listed"
_NOT_BEFORE = timedelta(seconds=45)

log = logging.getLogger(__name__)


def adopt(pairs: Iterable[Pair]) -> int:
    """Creates rows for enrollments in the LMS that have none here. Returns their number.

    Ignores usernames without an account here, and invalid course keys.
    """
    missing_pairs = set(pairs)
    if not missing_pairs or not options().adopt_enrollments:
        return 0
    accounts = LmsAccount.objects.filter(
        username__in={name for name, _ in missing_pairs}, created_in_lms_at__isnull=False
    )
    users = dict(accounts.values_list("username", "user_id"))
    present = set(
        Enrollment.objects.filter(
            user_id__in=users.values(), run__course_key__in={key for _, key in missing_pairs}
        ).values_list("user_id", "run__course_key")
    )
    unknown = sorted(
        (users[name], key)
        for name, key in missing_pairs
        if name in users and (users[name], key) not in present
    )
    runs = _runs({key for _, key in unknown})
    rows = [
        Enrollment(
            user_id=user_id,
            run_id=runs[key],
            mode="",
            is_active=False,
            observed_generation=1,
        )
        for user_id, key in unknown
        if key in runs
    ]
    # On a conflict, the learner was enrolled here at the same time, and that row is kept.
    Enrollment.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    return len(rows)


def _runs(keys: set[str]) -> dict[str, int]:
    run_ids = {key: run.pk for key, run in runs_of(keys).items()}
    for key in sorted(keys - set(run_ids)):
        try:
            run_ids[key] = ensure_run(key).pk
        except UnknownRun as error:
            log.warning("An enrollment in the LMS is left out: %s", error)
    return run_ids


def adopt_next_learners() -> int:
    """Reads the enrollments of the next hundred learners from the LMS. Returns how many are new.

    Called by every sweep, so that all learners are covered in turn even without webhooks. At most
    one call in 45 seconds sends a request.
    """
    if not options().adopt_enrollments:
        return 0
    mark = Watermark.objects.filter(name=LISTED).first()
    now = timezone.now()
    if mark is not None and now - mark.asked_at < _NOT_BEFORE:
        return 0
    after = int(mark.since) if mark and mark.since.isdigit() else 0
    try:
        count, last = _find_after(after)
    except LmsError:
        return 0  # the watermark is unchanged, so the next sweep asks for the same learners
    Watermark.objects.update_or_create(name=LISTED, defaults={"since": str(last), "asked_at": now})
    return count


def find_all(user: Any = None) -> int:
    """Reads the enrollments of all learners, or of one user, from the LMS. Returns how many are
    new. Raises LmsError at the first error of the LMS; later sweeps read the rest."""
    count, last = 0, 0
    while options().adopt_enrollments:
        new, last = _find_after(last, user)
        count += new
        if not last:
            break
    return count


def _find_after(last: int, user: Any = None) -> tuple[int, int]:
    """Reads the enrollments of the next accounts. Returns how many enrollments are new, and the id
    of the last account, or 0 if no account is left."""
    accounts = LmsAccount.objects.filter(created_in_lms_at__isnull=False, pk__gt=last)
    if user is not None:
        accounts = accounts.filter(user=user)
    page = list(accounts.order_by("pk").values_list("pk", "username")[:NAMES_A_REQUEST])
    if not page:
        return 0, 0
    enrollments = client().enrollments_of([name for _, name in page])
    count = adopt(
        (enrollment.username, enrollment.course_key)
        for enrollment in enrollments
        if enrollment.is_active
    )
    return count, page[-1][0] if len(page) == NAMES_A_REQUEST else 0
