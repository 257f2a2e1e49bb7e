"""The sync worker."""

import shlex
from typing import NamedTuple

from usher.contract.application_report import NO_CELERY, RowError
from usher.contract.failures import MALFORMED, RegistrationError
from usher.doctor.check import Check, Finding, check, failed, note, ok, quantity, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotApplicableError, NotKnownError
from usher.doctor.fixes import LMS_LOGS, START_BROKER, START_WORKER, manage

#: Seconds that a due row may wait. If a worker runs, its sweeps find a due row long before that,
#: even if the message for the row was lost.
_MAX_WAIT_SECONDS = 300
#: The attempts after which any error counts as retried in vain.
_MANY_ATTEMPTS = 20


@check
class SyncWorkerIsRunning(Check):
    """The sync worker is running.

    Symptom: records have been due for more than five minutes.
    Cause: no worker processes them: none runs, or the broker is down.
    Fix: start Celery's worker and beat, or without Celery run `manage.py reconcile --watch`.
    """

    id = "OPS-1"
    depends_on = ("ENV-3", "OPS-5")

    def probe(self, context: Context) -> Finding:
        engine = context.application.report.get("engine")
        if engine is None:
            raise NotApplicableError("the application has no worker")
        overdue = engine.get("overdue_seconds", 0.0)
        if overdue > _MAX_WAIT_SECONDS:
            count = self._count_due(context)
            return failed(
                f"{quantity(count, 'record waits', 'records wait')} for the worker, "
                f"the oldest for {overdue / 60:.0f} minutes",
                cause="no worker processes them",
                fix=START_WORKER,
            )
        return ok("no record has been due for long")

    def _count_due(self, context: Context) -> int:
        return sum(rows.get("due", 0) for rows in context.application.report["rows"].values())


@check
class CeleryRunsTasks(Check):
    """Celery's workers know Usher's tasks, and beat starts them.

    Symptom: no learner is enrolled; a worker logs "Received unregistered task".
    Cause: the broker is down, the project's Celery application does not find the tasks, or beat
    has no schedule.
    Fix: start the broker. Call `app.autodiscover_tasks()` in the project's `celery.py`. Call
    `defaults.apply(globals())` at the end of the settings, which adds beat's schedule. Then restart
    the workers and beat.
    """

    id = "OPS-4"
    depends_on = ("ENV-3",)

    def probe(self, context: Context) -> Finding:
        report = context.application.report
        error = (report.get("engine") or {}).get("broker_error")
        if error == NO_CELERY:
            return failed(
                f"{error}, and CELERY_BROKER_URL is set",
                cause="tasks can't be sent, so no learner is enrolled",
                fix="pip install 'openedx-usher[celery]' in the project's virtual environment; or "
                "remove CELERY_BROKER_URL and run `manage.py reconcile --watch` as the worker",
            )
        if error:
            return failed(
                f"Celery's broker does not answer: {error}",
                cause="Redis is down, or CELERY_BROKER_URL is wrong",
                fix=START_BROKER,
            )
        if "engine" not in report:
            raise NotApplicableError("the application has no sync worker")
        celery = report.get("celery")
        if celery is None:
            return ok("the project uses no broker: `reconcile --watch` is its worker")
        if missing := celery.get("missing_tasks"):
            return failed(
                f"{quantity(celery.get('workers', 0), 'Celery worker does', 'Celery workers do')} "
                f"not know {', '.join(missing)}",
                cause="the worker's Celery application did not find Usher's tasks",
                fix="call app.autodiscover_tasks() in the project's celery.py, and add "
                '"usher.application" to INSTALLED_APPS; then restart the workers',
            )
        if not celery.get("is_scheduled"):
            return failed(
                "beat has no entry for the sweep of due rows",
                cause="CELERY_BEAT_SCHEDULE lacks usher.engine.tasks.sweep",
                fix="call defaults.apply(globals()) of usher.application at the end of the "
                "settings, which adds the entry, and run beat: celery -A PROJECT beat",
            )
        count = celery.get("workers", 0)
        workers = "1 worker knows" if count == 1 else f"{count} workers know"
        return ok(f"{workers} the tasks, and beat has a schedule")


@check
class SyncWorkerReportedRecently(Check):
    """A sync worker has reported recently.

    Symptom: changes in the application do not reach the LMS.
    Cause: no worker is running.
    Fix: start Celery's worker and beat, or without Celery run `manage.py reconcile --watch`.
    """

    id = "OPS-5"
    depends_on = ("ENV-3", "OPS-4")

    def probe(self, context: Context) -> Finding:
        engine = context.application.report.get("engine")
        if engine is None or "worker_seen_seconds" not in engine:
            raise NotKnownError("the application does not report its sync worker")
        age = engine["worker_seen_seconds"]
        max_age = engine.get("worker_late_seconds", 0)
        if age is None:
            return self._failed(context, "no sync worker has run yet")
        if not max_age:  # a worker that is stopped reports this
            return self._failed(context, f"the sync worker was stopped {_duration(age)} ago")
        if age > max_age:
            return self._failed(context, f"no sync worker has been alive for {_duration(age)}")
        return ok(f"a sync worker was alive {age:.0f} seconds ago")

    def _failed(self, context: Context, seen: str) -> Finding:
        cause = context.stopped_notice or "no worker runs"
        return failed(seen, cause=f"{cause}, so nothing reaches the LMS", fix=START_WORKER)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@check
class RefusalsAreNotRetried(Check):
    """Refused records are not retried endlessly.

    Symptom: the same errors again and again.
    Cause: records that the LMS refuses permanently are retried.
    Fix: run `manage.py reconcile --recheck` for the kind that the finding names. A record that the
    LMS refuses again is kept as refused, with the reason, until somebody retries it.
    """

    id = "OPS-2"
    depends_on = ("OPS-1", "OPS-3")

    def probe(self, context: Context) -> Finding:
        if "rows" not in context.application.report:
            raise NotKnownError("the application keeps no records of refusals")
        for kind, rows in context.application.report["rows"].items():
            for error in rows.get("errors", []):
                retried = error.get("count", 0) - error.get("refused", 0)
                attempts = error.get("attempts", 0)
                is_permanent = error.get("error_class") == "rejected"
                max_attempts = 1 if is_permanent else _MANY_ATTEMPTS
                if retried > 0 and attempts > max_attempts:
                    return failed(
                        f"{_records(retried, kind)} with {error.get('error_code')} retried in "
                        f"vain, up to {attempts} times",
                        cause=f"the LMS keeps refusing them: {error.get('message', '')[:120]}",
                        fix=manage(f"reconcile --kind {shlex.quote(kind)} --recheck"),
                    )
        return ok("nothing is retried in vain")


@check
class NoRecordIsRefused(Check):
    """No record is refused.

    Symptom: one learner's name, grade or account is not updated, without a message.
    Cause: the LMS refuses it permanently; the record has the LMS's reason.
    Fix: remove the cause that the reason names, then retry the record.
    """

    id = "OPS-6"
    depends_on = ("OPS-1", "OPS-3", "CRS-2")

    def probe(self, context: Context) -> Finding:
        if "rows" not in context.application.report:
            raise NotKnownError("the application keeps no records of refusals")
        all_refusals: list[_Refusals] = []
        for kind, rows in context.application.report["rows"].items():
            for error in rows.get("errors", []):
                if error.get("refused", 0):
                    all_refusals.append(_Refusals(kind, error))
        if not all_refusals:
            return ok("no record is refused")
        unreported_refusals = [
            refusals for refusals in all_refusals if not _are_reported_by_another_check(refusals)
        ]
        if not unreported_refusals:
            families = dict.fromkeys(
                _FAMILY_OF_OTHER_CHECKS[refusals.kind] for refusals in all_refusals
            )
            return note(
                f"the LMS refuses {_counts_text(all_refusals)}",
                cause=f"the checks {' and '.join(families)} name the reasons and the fixes",
            )
        unreported_refusals.sort(key=lambda refusals: refusals.row_count, reverse=True)
        kinds = dict.fromkeys(refusals.kind for refusals in unreported_refusals)
        options = " ".join(f"--kind {shlex.quote(kind)}" for kind in kinds)
        return warning(
            f"the LMS refuses {_counts_text(unreported_refusals)}",
            cause=_reasons_text(unreported_refusals),
            fix=f"remove the cause, then {manage(f'reconcile {options} --recheck --wait 60')}",
        )


class _Refusals(NamedTuple):
    """The refused records of one kind with the same error code, as the application reports them."""

    kind: str
    error: RowError

    @property
    def row_count(self) -> int:
        return self.error.get("refused", 0)

    @property
    def reason_text(self) -> str:
        """The LMS's reason, with the number of the records and the name of one of them."""
        reason = self.error.get("message", "")[:160] or self.error.get("error_code")
        sample = self.error.get("sample")
        return f"{reason} ({_records(self.row_count, self.kind)}, such as {sample})"


def _counts_text(all_refusals: list[_Refusals]) -> str:
    """The number of refused records of each kind."""
    counts: dict[str, int] = {}
    for refusals in all_refusals:
        counts[refusals.kind] = counts.get(refusals.kind, 0) + refusals.row_count
    return ", ".join(_records(count, kind) for kind, count in counts.items())


def _reasons_text(all_refusals: list[_Refusals]) -> str:
    """The first reasons, and the number of the others."""
    parts = [refusals.reason_text for refusals in all_refusals[:_MAX_SHOWN]]
    other_count = len(all_refusals) - len(parts)
    if other_count:
        parts.append(f"and {quantity(other_count, 'other reason')}")
    return "; ".join(parts)


def _records(count: int, kind: str) -> str:
    return quantity(count, _NOUNS.get(kind, f"record of kind {kind}"))


#: Kind → its name for people.
_NOUNS = {
    "account": "LMS account",
    "enrollment": "enrollment",
    "run": "course run",
    "token": "token",
}


def _are_reported_by_another_check(refusals: _Refusals) -> bool:
    kind, error = refusals
    code = error.get("error_code", "")
    if kind == "enrollment":  # ENR-1 reports every code of the class ``rejected``
        return error.get("error_class") == "rejected" or code in _CODES_OF_OTHER_CHECKS[kind]
    return code in _CODES_OF_OTHER_CHECKS.get(kind, ())


#: Kind → the error codes that other checks report.
_CODES_OF_OTHER_CHECKS = {
    "account": (
        RegistrationError.DUPLICATE_USERNAME,
        RegistrationError.DUPLICATE_EMAIL,
        RegistrationError.DUPLICATE_EMAIL_USERNAME,
        RegistrationError.VALIDATION,
        RegistrationError.INVALID_COUNTRY,
        RegistrationError.RATE_LIMITED,
        "has-sync-error",
    ),
    "enrollment": ("mode-mismatch", "given-up", MALFORMED),
    "mode": (MALFORMED,),
    "run": ("not-found", MALFORMED),
    "token": ("invalid_grant", "invalid_client"),
}
#: Kind → the family of the checks that report the refusals in ``_CODES_OF_OTHER_CHECKS``.
_FAMILY_OF_OTHER_CHECKS = {
    "account": "ACC",
    "enrollment": "ENR",
    "mode": "CRS",
    "run": "CRS",
    "token": "OAU",
}
_MAX_SHOWN = 3


@check
class LmsIsNotOverloaded(Check):
    """Requests to the LMS are not paused.

    Symptom: records wait although a worker runs.
    Cause: the LMS failed many times in a row. A circuit breaker then stops requests, so that they
    do not overload the LMS, and tries one request from time to time until the LMS works again.
    Fix: read the LMS's log, or start the LMS. Requests then continue automatically.
    """

    id = "OPS-3"
    depends_on = ("OPS-1", "NET-6", "SVC-1")

    def probe(self, context: Context) -> Finding:
        engine = context.application.report.get("engine")
        if engine is None:
            raise NotKnownError(
                "the application does not report the state of its requests to the LMS"
            )
        if engine.get("breaker", "closed") != "closed":
            return failed(
                f"requests to the LMS are paused ({engine.get('breaker')})",
                cause=engine.get("breaker_reason") or "the LMS failed many times in a row",
                fix=f"{LMS_LOGS}; requests continue as soon as the LMS answers",
            )
        return ok("requests to the LMS are not paused")
