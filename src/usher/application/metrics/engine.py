"""Counts the engine's outcomes for the metrics, without a statement for each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from usher.application.metrics import conditions
from usher.application.metrics.recorder import recorder
from usher.contract import metrics
from usher.engine.kinds import Job, Outcome
from usher.engine.observers import Observer


class MetricsCounter(Observer):
    """Counts outcomes that were written to the database."""

    def written(self, kind: str, results: Sequence[tuple[Job, Outcome]]) -> None:
        for outcome, count in Counter(_outcome_label(outcome) for _, outcome in results).items():
            recorder.count(metrics.OUTCOMES, kind, outcome, by=count)
        for job, _ in results:
            if job.settled_after is not None:
                recorder.observe(metrics.SETTLE, kind, value=job.settled_after)

    def requesting(self, kind: str, rows: int) -> None:
        recorder.observe(metrics.BATCH_ROWS, kind, value=rows)

    def passing(self) -> None:
        write_if_due()

    def swept(self) -> None:
        write()

    def ended(self, *, is_empty: bool) -> None:
        record_pass(is_empty=is_empty)


def record_outbox(messages: int, oldest_seconds: float) -> None:
    """Records how many messages the LMS has not delivered to this application yet, and the age of
    the oldest."""
    recorder.set(metrics.OUTBOX, value=messages)
    recorder.set(metrics.OUTBOX_OLDEST, value=oldest_seconds)


def record_pass(*, is_empty: bool) -> None:
    """Called after a pass. Writes the counts now, or together with the counts of later passes if
    there was no work and no gauge has changed."""
    recorder.count(metrics.PASSES)
    conditions.record_if_due()
    if not is_empty or recorder.is_due or recorder.has_values:
        recorder.flush()


def write_if_due() -> None:
    """Called now and then during a long pass."""
    if recorder.is_due:
        write()


# Writes the counts and gauges of this process to the database.
def write() -> None:
    conditions.record_if_due()
    recorder.flush()


def _outcome_label(outcome: Outcome) -> str:
    if outcome.error is None:
        return "changed" if outcome.changed else "unchanged"
    return "waits" if outcome.is_waiting else str(outcome.error.failure_class)
