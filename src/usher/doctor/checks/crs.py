"""Course runs."""

from usher.doctor.check import Check, Finding, check, ok, quantity, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError

#: Checks of the sync worker, which finds out what the LMS lacks or throttles.
_SYNC_WORKER_CHECKS = ("OPS-1", "OPS-2", "OPS-3")
_MAX_SHOWN = 3


@check
class CourseKeysAreWellFormed(Check):
    """Course keys are well-formed.

    Symptom: a course run never gets its dates or modes.
    Cause: its course key is misspelt.
    Fix: correct the record that the finding names.
    """

    id = "CRS-2"

    def probe(self, context: Context) -> Finding:
        if "malformed_runs" not in context.application.report:
            raise NotKnownError("the application does not report its course runs")
        malformed = context.application.report["malformed_runs"]
        if malformed:
            return warning(
                f"{quantity(len(malformed), 'course key is', 'course keys are')} malformed: "
                f"{', '.join(malformed[:_MAX_SHOWN])}",
                cause="they were mistyped; a course key has the form course-v1:ORG+NUMBER+RUN",
                fix=f"correct the course run {malformed[0]!r} in the application's admin; where "
                "its key can't be changed, delete it and add it with the right key",
            )
        return ok("all keys of runs are well-formed")


@check
class LmsHasCourseRuns(Check):
    """The LMS has every course run that the application offers.

    Symptom: a run is not found.
    Cause: there is no such run in the LMS, or the service worker can't see it.
    Fix: publish it, or remove it from the application.
    """

    id = "CRS-1"
    depends_on = (*_SYNC_WORKER_CHECKS, "SVC-2", "CRS-2")

    def probe(self, context: Context) -> Finding:
        rows = context.application.rows("run")
        if "missing" not in rows:
            raise NotKnownError("the application does not report which runs the LMS lacks")
        missing = rows["missing"]
        if missing:
            return warning(
                f"the LMS does not show {', '.join(missing[:_MAX_SHOWN])}"
                + (f" and {len(missing) - _MAX_SHOWN} more" if missing[_MAX_SHOWN:] else ""),
                cause="there is no such run, or it is not published",
                fix="publish it in the LMS, or clear 'offered to learners' of the run in the "
                "application's admin",
            )
        return ok("the LMS has every run")


@check
class CourseRunSyncCompletes(Check):
    """The sync of course runs completes.

    Symptom: the command that reads course runs from the LMS stops for a minute or more.
    Cause: the LMS throttles the course list at 40 requests a minute (429).
    Fix: none is needed: the sync waits as long as the LMS says, then continues.
    """

    id = "CRS-3"
    depends_on = _SYNC_WORKER_CHECKS

    def probe(self, context: Context) -> Finding:
        errors = context.application.rows("run").get("errors", [])
        throttled = [error for error in errors if error.get("error_class") == "throttled"]
        if throttled:
            count = sum(error.get("count", 0) for error in throttled)
            return warning(
                f"{quantity(count, 'run waits', 'runs wait')} because the LMS throttles the sync",
                cause="the LMS answers 429 to the course list",
                fix=(
                    "nothing to do: the sync continues when the LMS allows it; with usher.lms "
                    "there is no such limit"
                ),
            )
        return ok("the LMS does not throttle the sync")
