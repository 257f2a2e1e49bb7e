"""Enrollments."""

from typing import Any
from urllib.parse import urlencode, urlsplit

from usher.contract.application_report import EnrollmentSample
from usher.contract.failures import MALFORMED
from usher.contract.paths import LmsPath
from usher.doctor.check import Check, Finding, check, ok, quantity, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import RECONCILE, manage

#: Checks whose failure may be the cause of refused enrollments.
_EARLIER_CHECKS = ("OPS-1", "OPS-2", "OPS-3", "SVC-2", "CRS-1")
#: Error codes of enrollments and accounts.
_MISMATCH = "mode-mismatch"
_SYNC_ERROR = "has-sync-error"
_GIVEN_UP = "given-up"
#: The most pages of the LMS's enrollments that are read; the LMS returns 100 enrollments a page.
_MAX_PAGES = 20
_IN_ADMIN = "at the enrollment in the application's admin"
_ENROLLMENT_CLOSED = (
    "the run does not accept enrollments now",
    f"change its dates in the LMS, or select 'Enroll although closed' {_IN_ADMIN}",
)
_MODE_NOT_OFFERED = (
    "the run does not offer the mode",
    f"add the mode to the run in the LMS, or choose another mode {_IN_ADMIN}",
)
_RETRY = f"then {manage('reconcile --kind enrollment --recheck --wait 60')}"
#: Error code → cause and fix.
_REFUSALS = {
    "unknown-run": (
        "the LMS does not have this course run, see CRS-1",
        "publish the run in the LMS; the enrollments are then sent again. If its key is mistyped, "
        "enroll the learners in the right run, and delete this one: `usher why LEARNER` shows the "
        "command",
    ),
    "course-full": ("the run is full", f"raise its limit in the LMS, {_RETRY}"),
    "not-allowed": (
        "the run is open to some learners only",
        f"allow these learners in the LMS, {_RETRY}",
    ),
    "enrollment-closed": _ENROLLMENT_CLOSED,
    "mode-not-offered": _MODE_NOT_OFFERED,
    "mode-unavailable": _MODE_NOT_OFFERED,
}
_OTHER_REFUSAL = (
    "often the mode is not offered, or enrollment is closed; the LMS's message says more",
    f"choose another mode, or select 'Enroll although closed', {_IN_ADMIN}",
)


@check
class EnrollmentsAreAccepted(Check):
    """The LMS accepts the enrollments.

    Symptom: an enrollment is refused.
    Cause: its mode is not offered any more, enrollment is closed, or the run is not in the LMS; the
    LMS's message names the cause.
    Fix: remove the cause that the finding names. Enrollments are sent again when their run changes
    in the LMS; retry them otherwise.
    """

    id = "ENR-1"
    depends_on = _EARLIER_CHECKS

    def probe(self, context: Context) -> Finding:
        refused = [
            row
            for row in context.application.refusals("enrollment")
            if row.get("error_class") == "rejected"
            and row.get("error_code") not in (_MISMATCH, _GIVEN_UP, MALFORMED)
        ]
        if refused:
            count = sum(row.get("count", 0) for row in refused)
            first = refused[0]
            cause, fix = _REFUSALS.get(first.get("error_code", ""), _OTHER_REFUSAL)
            other_count = count - first.get("count", 0)
            others = f" ({other_count} for other reasons)" if other_count else ""
            return warning(
                f"the LMS refuses {quantity(count, 'enrollment')}: {first.get('sample')}: "
                f"{first.get('message', '')[:120]}{others}",
                cause=cause,
                fix=fix,
            )
        return ok("the LMS refuses no enrollment")


def read_lms_enrollments(context: Context, usernames: set[str]) -> dict[tuple[str, str], Any]:
    """All enrollments of these learners in the LMS: (username, course key) → enrollment. Raises
    NotKnownError, also if there are too many."""
    enrollments: dict[tuple[str, str], Any] = {}
    query = urlencode({"username": ",".join(sorted(usernames)), "page_size": 100})
    for _ in range(_MAX_PAGES):
        answer = context.lms.get(f"{LmsPath.ENROLLMENTS}?{query}", token=context.token)
        if answer.status_code != 200:
            raise NotKnownError(f"{LmsPath.ENROLLMENTS} answers {answer.status_code}")
        page = answer.json()
        enrollments |= {(row["user"], row["course_id"]): row for row in page["results"]}
        # Only the query of ``next`` is used: behind a proxy, its scheme and host may be others.
        query = urlsplit(page.get("next") or "").query
        if not query:
            return enrollments
    raise NotKnownError("these learners have too many enrollments in the LMS to compare")


@check
class EnrollmentsMatch(Check):
    """The application and the LMS have the same enrollments.

    Symptom: a learner is enrolled in the application and not in the LMS, or the reverse.
    Cause: somebody changed the LMS, or a change is still in progress.
    Fix: run `manage.py reconcile` (`usher reconcile` for MITx Online and MIT xPro).
    """

    id = "ENR-2"
    depends_on = ("ENR-1", "ENR-3")

    def probe(self, context: Context) -> Finding:
        reported = context.application.report.get("enrollments")
        if not reported:
            raise NotKnownError("the application reports no enrollment to compare")
        missing_runs = context.application.rows("run").get("missing", [])
        # The check CRS-1 reports the missing runs.
        rows = [row for row in reported if row["course_key"] not in missing_runs]
        lms_enrollments = read_lms_enrollments(context, {row["username"] for row in rows})
        differing = [row for row in rows if not self._agree(row, lms_enrollments)]
        if differing:
            first = differing[0]
            return warning(
                f"{len(differing)} of the newest {quantity(len(rows), 'enrollment')} differ in the "
                f"LMS, such as {first['username']} in {first['course_key']}",
                cause="somebody changed the LMS, or a change is still in progress",
                fix=manage("reconcile --kind enrollment --recheck --wait 60"),
            )
        return ok(f"the newest {quantity(len(rows), 'enrollment')} agree with the LMS")

    def _agree(self, row: EnrollmentSample, lms_enrollments: dict[tuple[str, str], Any]) -> bool:
        """Whether the enrollment is active in both with the same mode, or active in neither. If the
        application stores no mode, any mode agrees."""
        enrollment = lms_enrollments.get((row["username"], row["course_key"]))
        if enrollment is None or not enrollment["is_active"]:
            return not row["is_active"]
        has_same_mode = not row["mode"] or enrollment["mode"] == row["mode"]
        return row["is_active"] and bool(has_same_mode)


@check
class UnenrollmentsAreAccepted(Check):
    """The LMS accepts unenrollments.

    Symptom: unenrolling is refused: "mode mismatch".
    Cause: the active mode in the LMS differs from the mode in the request.
    Fix: run `manage.py reconcile`, which reads the active mode and sends it with the request.
    """

    id = "ENR-3"
    depends_on = _EARLIER_CHECKS

    def probe(self, context: Context) -> Finding:
        rows = context.application.refusals("enrollment", _MISMATCH)
        if rows:
            count = sum(row.get("count", 0) for row in rows)
            return warning(
                f"the LMS refuses {quantity(count, 'unenrollment')}: "
                f"{rows[0].get('message', '')[:120]}",
                cause="the active mode in the LMS differs from the mode in the request",
                fix=manage("reconcile --kind enrollment --recheck --wait 60"),
            )
        return ok("the LMS refuses no unenrollment")


@check
class LmsEnrollmentsAreKnown(Check):
    """The application knows the LMS's enrollments.

    Symptom: a learner is enrolled in the LMS, and the application does not show it.
    Cause: an instructor enrolled the learner in the LMS.
    Fix: an application with Usher records these enrollments automatically, a hundred learners a
    minute; `manage.py reconcile --recheck` does it at once. Without Usher, enroll the learners in
    the application as well, or unenroll them in the LMS.
    """

    id = "ENR-4"
    depends_on = ("ENR-2",)

    def probe(self, context: Context) -> Finding:
        learner_runs = context.application.report.get("learner_runs")
        if not learner_runs:
            raise NotKnownError("the application reports no learner to compare")
        # None if the application does not report it, because it is not built on Usher.
        adopts = context.application.report.get("adopts_enrollments")
        if adopts is False:
            return ok(
                "enrollments made in the LMS are not recorded: USHER_ADOPT_ENROLLMENTS is off"
            )
        lms_enrollments = read_lms_enrollments(context, set(learner_runs))
        only_in_lms = []
        for (name, course_key), enrollment in lms_enrollments.items():
            is_known = course_key in learner_runs.get(name, [])
            if enrollment["is_active"] and not is_known:
                only_in_lms.append((name, course_key))
        learners = f"the newest {quantity(len(learner_runs), 'learner')}"
        if not only_in_lms:
            return ok(f"the LMS has no other enrollment of {learners}")
        name, course_key = only_in_lms[0]
        if adopts:
            fix = manage("reconcile --kind enrollment --recheck --wait 60")
        else:
            fix = (
                f"enroll {name} in {course_key} in the application's admin, or unenroll them in "
                "the LMS"
            )
        return warning(
            f"only the LMS has {quantity(len(only_in_lms), 'enrollment')} of {learners}, such as "
            f"{name} in {course_key}",
            cause="an instructor or another service enrolled them in the LMS",
            fix=fix,
        )


@check
class NoLearnerWasGivenUp(Check):
    """The application has given up on no learner.

    Symptom: a learner has paid and is in no course.
    Cause: the application does not retry: the account has a sync error, or the enrollment has used
    all its attempts.
    Fix: run `usher reconcile`, which creates accounts and enrollments from the application's own
    tables.
    """

    id = "ENR-5"
    depends_on = ("SVC-2",)

    def probe(self, context: Context) -> Finding:
        if context.application.report.get("usher"):
            return ok("the sync worker keeps every row, see ACC-1 to ACC-3 and ENR-1")
        given_up = [
            *context.application.errors("account", _SYNC_ERROR),
            *context.application.errors("enrollment", _GIVEN_UP),
        ]
        if given_up:
            count = sum(row.get("count", 0) for row in given_up)
            return warning(
                f"the application gave up on {quantity(count, 'record')}, such as "
                f"{given_up[0].get('sample')}: {given_up[0].get('message', '')[:120]}",
                cause="it does not retry records that failed too often or have has_sync_error",
                fix=RECONCILE,
            )
        return ok("the application has given up on no learner")
