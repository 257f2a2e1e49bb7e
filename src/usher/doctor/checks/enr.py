"""Enrollments."""

from usher.doctor.check import Check, Finding, check, ok, warning
from usher.doctor.context import Context

_UP = ("OPS-1", "OPS-3", "SVC-2")
_MISMATCH = "mode-mismatch"


@check
class EnrollmentsAreAccepted(Check):
    """The LMS accepts the enrollments.

    Symptom: an enrollment is refused.
    Cause: its mode is not offered any more, or enrollment is closed (400, with a message).
    Fix: another mode, or force.
    """

    id = "ENR-1"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        refused = [
            row
            for row in context.application.rows("enrollment").get("errors", [])
            if row.get("error_class") == "rejected" and row.get("error_code") != _MISMATCH
        ]
        if refused:
            count = sum(row.get("count", 0) for row in refused)
            return warning(
                f"{count} enrollments refused: {refused[0].get('sample')}: "
                f"{refused[0].get('message', '')[:120]}",
                cause="the mode is not offered, or enrollment is closed",
                fix="choose another mode, or 'force', at the enrollment in the application's admin",
            )
        return ok("the LMS refuses no enrollment")


@check
class EnrollmentsAreInStep(Check):
    """Both sides have the same enrollments.

    Symptom: a learner is enrolled here and not there, or the reverse.
    Cause: drift: somebody changed the LMS, or a change is still under way.
    Fix: reconcile.
    """

    id = "ENR-2"
    depends_on = ("ENR-1", "ENR-3")

    def probe(self, context: Context) -> Finding:
        drifting = context.application.rows("enrollment").get("drifting", 0)
        if drifting:
            return warning(
                f"{drifting} enrollments differ between both sides",
                cause="the LMS was changed, or was not reached",
                fix="./manage.py reconcile --kind enrollment",
            )
        return ok("enrollments are the same on both sides")


@check
class UnenrollmentsAreAccepted(Check):
    """The LMS accepts unenrollments.

    Symptom: unenrolling is refused: "mode mismatch".
    Cause: the active mode in the LMS differs from the one sent.
    Fix: the active mode is sent by itself; what is left over is shown here.
    """

    id = "ENR-3"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        rows = context.application.errors("enrollment", _MISMATCH)
        if rows:
            return warning(
                f"{sum(row.get('count', 0) for row in rows)} unenrollments refused: "
                f"{rows[0].get('message', '')[:120]}",
                cause="the LMS has another active mode than the one sent",
                fix="./manage.py reconcile --kind enrollment",
            )
        return ok("the LMS refuses no unenrollment")
