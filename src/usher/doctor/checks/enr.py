"""Enrollments."""

from typing import Any
from urllib.parse import urlencode

from usher.contract.application_report import EnrollmentSample
from usher.contract.paths import LmsPath
from usher.doctor.check import Check, Finding, check, ok, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import RECONCILE, manage

_UP = ("OPS-1", "OPS-2", "OPS-3", "SVC-2")
_MISMATCH = "mode-mismatch"
_ADMIN = "at the enrollment in the application's admin"
_CLOSED = (
    "the run does not accept enrollments now",
    f"change its dates in the LMS, or select 'Enroll although closed' {_ADMIN}",
)
_NO_MODE = (
    "the run does not offer the mode",
    f"add the mode to the run in the LMS, or choose another mode {_ADMIN}",
)
_RETRY = "then choose Retry in the application's admin"
#: Error code → cause and fix.
_REFUSALS = {
    "unknown-run": (
        "the LMS does not have this course run, see CRS-1",
        "publish the run in the LMS; the enrollments are then sent again. If its key is mistyped, "
        "enroll the learners in the right run",
    ),
    "course-full": ("the run is full", f"raise its limit in the LMS, {_RETRY}"),
    "not-allowed": (
        "the run is open to some learners only",
        f"allow these learners in the LMS, {_RETRY}",
    ),
    "enrollment-closed": _CLOSED,
    "mode-not-offered": _NO_MODE,
    "mode-unavailable": _NO_MODE,
}
_UNKNOWN = (
    "often the mode is not offered, or enrollment is closed; the LMS's message says more",
    f"choose another mode, or select 'Enroll although closed', {_ADMIN}",
)


@check
class EnrollmentsAreAccepted(Check):
    """The LMS accepts the enrollments.

    Symptom: an enrollment is refused.
    Cause: its mode is not offered any more, enrollment is closed, or the run is not in the LMS; the
    LMS says which.
    Fix: remove the cause that the finding names. Enrollments are sent again when their run changes
    in the LMS; retry them otherwise.
    """

    id = "ENR-1"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        refused = [
            row
            for row in context.application.refusals("enrollment")
            if row.get("error_class") == "rejected"
            and row.get("error_code") not in (_MISMATCH, _GIVEN_UP)
        ]
        if refused:
            count = sum(row.get("count", 0) for row in refused)
            cause, fix = _REFUSALS.get(refused[0].get("error_code", ""), _UNKNOWN)
            others = count - refused[0].get("count", 0)
            return warning(
                f"{count} enrollments refused: {refused[0].get('sample')}: "
                f"{refused[0].get('message', '')[:120]}"
                + (f" ({others} for other reasons)" if others else ""),
                cause=cause,
                fix=fix,
            )
        return ok("the LMS refuses no enrollment")


def at_lms(context: Context, usernames: set[str]) -> dict[tuple[str, str], Any]:
    """(username, course key) → the LMS's enrollment, of these learners."""
    query = urlencode({"username": ",".join(sorted(usernames)), "page_size": 100})
    answer = context.lms.get(f"{LmsPath.ENROLLMENTS}?{query}", token=context.token)
    if answer.status_code != 200:
        raise NotKnownError(f"{LmsPath.ENROLLMENTS} answers {answer.status_code}")
    return {(row["user"], row["course_id"]): row for row in answer.json()["results"]}


@check
class EnrollmentsMatch(Check):
    """The application and the LMS have the same enrollments.

    Symptom: a learner is enrolled in the application and not in the LMS, or the reverse.
    Cause: somebody changed the LMS, or a change is still in progress.
    Fix: run reconcile.
    """

    id = "ENR-2"
    depends_on = ("ENR-1", "ENR-3")

    def probe(self, context: Context) -> Finding:
        here = context.application.report.get("enrollments")
        if not here:
            raise NotKnownError("the application reports no enrollment to compare")
        lost = context.application.rows("run").get("missing", [])
        here = [row for row in here if row["course_key"] not in lost]  # CRS-1 names these runs
        there = at_lms(context, {row["username"] for row in here})
        differing = [row for row in here if not self._agree(row, there)]
        if differing:
            first = differing[0]
            return warning(
                f"{len(differing)} of the newest {len(here)} enrollments differ, first: "
                f"{first['username']} in {first['course_key']}",
                cause="somebody changed the LMS, or a change is still in progress",
                fix=manage("reconcile --kind enrollment --recheck --wait 60"),
            )
        return ok(f"the newest {len(here)} enrollments are the same in the LMS")

    def _agree(self, row: EnrollmentSample, there: dict[tuple[str, str], Any]) -> bool:
        found = there.get((row["username"], row["course_key"]))
        if found is None or not found["is_active"]:
            return not row["is_active"]
        same_mode = not row["mode"] or found["mode"] == row["mode"]
        return row["is_active"] and bool(same_mode)


@check
class UnenrollmentsAreAccepted(Check):
    """The LMS accepts unenrollments.

    Symptom: unenrolling is refused: "mode mismatch".
    Cause: the active mode in the LMS differs from the one sent.
    Fix: run reconcile, which reads the active mode and sends that one.
    """

    id = "ENR-3"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        rows = context.application.refusals("enrollment", _MISMATCH)
        if rows:
            return warning(
                f"{sum(row.get('count', 0) for row in rows)} unenrollments refused: "
                f"{rows[0].get('message', '')[:120]}",
                cause="the active mode in the LMS differs from the one sent",
                fix=manage("reconcile --kind enrollment --recheck --wait 60"),
            )
        return ok("the LMS refuses no unenrollment")


@check
class LmsEnrollmentsAreKnown(Check):
    """The application knows the LMS's enrollments.

    Symptom: a learner is enrolled in the LMS, and the application does not show it.
    Cause: an instructor enrolled them in the LMS.
    Fix: an application with Usher records them by itself, a hundred learners a minute, and at once
    by `reconcile --recheck`. Elsewhere enroll them here as well, or unenroll them in the LMS.
    """

    id = "ENR-4"
    depends_on = ("ENR-2",)

    def probe(self, context: Context) -> Finding:
        known = context.application.report.get("learner_runs")
        if not known:
            raise NotKnownError("the application reports no learner to compare")
        adopts = context.application.report.get("adopts_enrollments")
        if adopts is False:
            return ok("enrollments made in the LMS stay there, as USHER_ADOPT_ENROLLMENTS says")
        extra = [
            (name, key)
            for (name, key), row in at_lms(context, set(known)).items()
            if row["is_active"] and key not in known.get(name, [])
        ]
        if not extra:
            return ok(f"the LMS has no other enrollment of the newest {len(known)} learners")
        name, key = extra[0]
        return warning(
            f"{len(extra)} enrollments of the newest {len(known)} learners are in the LMS only, "
            f"first: {name} in {key}",
            cause="an instructor or another service enrolled them in the LMS",
            fix=manage("reconcile --kind enrollment --recheck --wait 60")
            if adopts
            else f"enroll {name} in {key} in the application's admin, or unenroll them in the LMS",
        )


@check
class NoLearnerWasGivenUp(Check):
    """The application has given up no learner.

    Symptom: a learner has paid and is in no course.
    Cause: the application gave up: the account has a sync error, or the enrollment was tried as
    often as it may be.
    Fix: `usher reconcile`, which makes accounts and enrollments from the application's own tables.
    """

    id = "ENR-5"
    depends_on = ("SVC-2",)

    def probe(self, context: Context) -> Finding:
        if context.application.report.get("usher"):
            return ok("the sync worker keeps every row, see ACC-1 to ACC-3 and ENR-1")
        found = [
            *context.application.errors("account", _SYNC_ERROR),
            *context.application.errors("enrollment", _GIVEN_UP),
        ]
        if found:
            count = sum(row.get("count", 0) for row in found)
            return warning(
                f"the application gave up on {count}: {found[0].get('sample')}: "
                f"{found[0].get('message', '')[:120]}",
                cause="it does not retry records that failed too often or have has_sync_error",
                fix=RECONCILE,
            )
        return ok("the application has given up on no learner")


_SYNC_ERROR = "has-sync-error"
_GIVEN_UP = "given-up"
