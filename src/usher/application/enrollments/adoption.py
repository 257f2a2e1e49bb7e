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
ENROLLMENTS_LISTED = "enrollments-listed"
_MIN_INTERVAL = timedelta(seconds=45)

log = logging.getLogger(__name__)


def adopt(pairs: Iterable[Pair]) -> int:
    """Creates rows for enrollments in the LMS that have none here. Returns their number.

    Ignores usernames without an account here, and invalid course keys.
    """
    pairs_in_lms = set(pairs)
    if not pairs_in_lms or not options().adopt_enrollments:
        return 0
    accounts = LmsAccount.objects.filter(
        username__in={name for name, _ in pairs_in_lms}, created_in_lms_at__isnull=False
    )
    users = dict(accounts.values_list("username", "user_id"))
    recorded = set(
        Enrollment.objects.filter(
            user_id__in=users.values(), run__course_key__in={key for _, key in pairs_in_lms}
        ).values_list("user_id", "run__course_key")
    )
    in_lms = {(users[name], key) for name, key in pairs_in_lms if name in users}
    unrecorded = sorted(in_lms - recorded)
    runs = _run_ids({key for _, key in unrecorded})
    # The rows are due. Since they have no mode, the reconciler reads their enrollments from the LMS
    # and saves them as the desired state.
    rows = [
        Enrollment(
            user_id=user_id,
            run_id=runs[key],
            mode="",
            is_active=False,
            observed_generation=1,  # equal to ``generation``: counts as in sync
        )
        for user_id, key in unrecorded
        if key in runs
    ]
    # On a conflict, the learner was enrolled here at the same time, and that row is kept.
    Enrollment.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    return len(rows)


def _run_ids(keys: set[str]) -> dict[str, int]:
    """Course key → id of the run, which is created if necessary. Leaves out runs that can't be
    created."""
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
    watermark = Watermark.objects.filter(name=ENROLLMENTS_LISTED).first()
    now = timezone.now()
    if watermark is not None and now - watermark.asked_at < _MIN_INTERVAL:
        return 0
    last_id = int(watermark.since) if watermark and watermark.since.isdigit() else 0
    try:
        count, last_id = _adopt_page(last_id)
    except LmsError:
        return 0  # the watermark is unchanged, so the next sweep asks for the same learners
    Watermark.objects.update_or_create(
        name=ENROLLMENTS_LISTED, defaults={"since": str(last_id), "asked_at": now}
    )
    return count


def adopt_all(user: Any = None) -> int:
    """Reads the enrollments of all learners, or of one user, from the LMS. Returns how many are
    new, 0 if ``USHER_ADOPT_ENROLLMENTS`` is off. Raises LmsError at the first error of the LMS;
    later sweeps read the rest."""
    count, last_id = 0, 0
    while options().adopt_enrollments:
        count_of_page, last_id = _adopt_page(last_id, user)
        count += count_of_page
        if not last_id:
            break
    return count


def _adopt_page(last_id: int, user: Any = None) -> tuple[int, int]:
    """Reads the enrollments of the next accounts. Returns how many enrollments are new, and the id
    of the last of these accounts, or 0 if no account is left.

    last_id: the id of the last account before these. user: reads only this user's enrollments.
    """
    accounts = LmsAccount.objects.filter(created_in_lms_at__isnull=False, pk__gt=last_id)
    if user is not None:
        accounts = accounts.filter(user=user)
    page = list(accounts.order_by("pk").values_list("pk", "username")[:NAMES_A_REQUEST])
    if not page:
        return 0, 0
    enrollments = client().enrollments_of(
        [name for _, name in page],
        # Otherwise the next sweeps would ask for the same learners again, and for no others.
        on_malformed=lambda error: log.warning(
            "An enrollment in the LMS is left out: %s", error.message
        ),
    )
    count = adopt(
        (enrollment.username, enrollment.course_key)
        for enrollment in enrollments
        if enrollment.is_active
    )
    is_last_page = len(page) < NAMES_A_REQUEST
    last_id_of_page, _ = page[-1]
    return count, 0 if is_last_page else last_id_of_page
