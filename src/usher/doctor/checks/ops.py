"""The engine that keeps the LMS in step."""

from usher.doctor.check import Check, Finding, check, failed, ok
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import LMS_LOGS, START_WORKER

#: A sweep finds what a lost wake-up left; after that long nobody can be at work.
_PATIENCE_SECONDS = 300
_MANY_ATTEMPTS = 20


@check
class EngineWorks(Check):
    """Somebody does the work.

    Symptom: nothing gets repaired.
    Cause: no worker runs, or the broker is down.
    Fix: start a worker, or `reconcile --watch`.
    """

    id = "OPS-1"
    depends_on = ("ENV-3",)

    def probe(self, context: Context) -> Finding:
        engine = context.application.report.get("engine")
        if engine is None:
            raise NotKnownError("the application has no engine")
        if error := engine.get("broker_error"):
            return failed(
                f"the broker does not answer: {error}",
                cause="Redis is down, or CELERY_BROKER_URL is wrong",
                fix="start Redis at the address in CELERY_BROKER_URL (docker compose up -d redis)",
            )
        overdue = engine.get("overdue_seconds", 0.0)
        if overdue > _PATIENCE_SECONDS:
            return failed(
                f"{self._waiting(context)} rows are due, one since {overdue / 60:.0f} minutes",
                cause="no worker takes them",
                fix=START_WORKER,
            )
        return ok("what is due is worked on")

    def _waiting(self, context: Context) -> int:
        return sum(rows.get("due", 0) for rows in context.application.report["rows"].values())


@check
class RefusalsAreParked(Check):
    """What the LMS refuses is put aside, not tried for ever.

    Symptom: the same thousand errors every hour.
    Cause: rows that the LMS refuses for good are retried.
    Fix: they are parked with a reason; a person decides and wakes them.
    """

    id = "OPS-2"
    depends_on = ("OPS-1", "OPS-3")

    def probe(self, context: Context) -> Finding:
        for kind, rows in context.application.report.get("rows", {}).items():
            for error in rows.get("errors", []):
                retried = error.get("count", 0) - error.get("parked", 0)
                tried = error.get("attempts", 0)
                for_good = error.get("error_class") == "rejected"
                if retried > 0 and ((for_good and tried > 1) or tried > _MANY_ATTEMPTS):
                    return failed(
                        f"{retried} of kind {kind} with {error.get('error_code')}, tried "
                        f"{tried} times",
                        cause=f"the LMS keeps refusing them: {error.get('message', '')[:120]}",
                        fix=f"./manage.py reconcile --kind {kind}, then look at them in the admin",
                    )
        return ok("nothing is retried in vain")


@check
class LmsIsNotOverwhelmed(Check):
    """The application doesn't call an LMS that fails.

    Symptom: the LMS is overwhelmed after an outage.
    Cause: everybody refreshes at once. While the LMS fails, the breaker holds calls back and lets
    a few through to see whether it is well again.
    Fix: bring the LMS up; the rest follows by itself.
    """

    id = "OPS-3"
    depends_on = ("OPS-1", "NET-6", "SVC-1")

    def probe(self, context: Context) -> Finding:
        engine = context.application.report.get("engine") or {}
        if engine.get("breaker", "closed") != "closed":
            return failed(
                f"calls to the LMS are held back ({engine.get('breaker')})",
                cause=engine.get("breaker_reason") or "the LMS failed many times in a row",
                fix=f"{LMS_LOGS}; calls resume as soon as the LMS answers",
            )
        return ok("calls to the LMS go through")
