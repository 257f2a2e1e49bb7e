"""Reports on rows that a command made due, including those that another worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet

from usher.engine.claim import Scope
from usher.engine.clock import database_now
from usher.engine.gate import Gate, State
from usher.engine.kinds import Kind
from usher.engine.models import ReconciledQuerySet
from usher.engine.registry import kind
from usher.engine.summary import Failure, Group, Summary
from usher.engine.work import Work


class MadeDue(dict[str, Q]):
    """Rows that a command made due: a kind's name → the condition for its rows. rows: how many rows
    were made due; 0 if the command did not count them. failure: why the other system could not be
    asked for all rows that should exist; None if it could."""

    rows: int = 0
    failure: Failure | None = None


#: A kind's name and the row's id.
Key = tuple[str, int]

_IDS_A_QUERY = 1000


def is_claimed_elsewhere(made_due: Mapping[str, Q], state: State) -> bool:
    """Whether another worker has claimed any of these rows, or is about to claim one.

    Call it when this worker finds nothing more to claim. If a row is due nevertheless, another
    worker is about to claim it, unless the gate of its kind is closed.
    """
    now = database_now()
    leased, due = Q(work__lease_until__gt=now), Q(work__due_at__lte=now)
    return any(
        _rows(name, made_due)
        .filter(leased if Gate(name, state).is_closed else leased | due)
        .exists()
        for name in made_due
    )


def failures(made_due: Mapping[str, Q]) -> Iterator[tuple[Key, Failure]]:
    """Each failed row that was made due, with its current error; rows that only wait are left out.
    Making a row due clears its error and its attempts, so these errors come from later attempts."""
    for name in made_due:
        kind_of_rows = kind(name)
        has_failed = Q(work__attempts__gt=0) | Q(work__refused_at__isnull=False)
        failing = _rows(name, made_due).failing().filter(has_failed)
        failing = failing.select_related("work", *kind_of_rows.related)
        rows = failing.iterator(chunk_size=_IDS_A_QUERY)
        while batch := list(islice(rows, _IDS_A_QUERY)):
            for row, display_name in zip(batch, kind_of_rows.display_names(batch), strict=True):
                failure = Failure(
                    name, display_name, row.error_class, row.error_code, row.error_message
                )
                yield (name, row.pk), failure


def succeeded_since(failed_keys: Iterable[Key]) -> Iterator[Key]:
    """Which of these rows have succeeded since they failed."""
    # A row that is due, or will be within a second, has not succeeded since.
    soon = database_now() + timedelta(seconds=1)
    ids_by_kind: dict[str, list[int]] = {}
    for name, pk in failed_keys:
        ids_by_kind.setdefault(name, []).append(pk)
    for name, ids in ids_by_kind.items():
        remaining_ids = iter(ids)
        while batch := list(islice(remaining_ids, _IDS_A_QUERY)):
            rows = kind(name).rows().filter(pk__in=batch)
            open_rows = rows.filter(Q(work__error_code__gt="") | Q(work__due_at__lte=soon))
            open_ids = set(open_rows.values_list("pk", flat=True))
            succeeded = set(rows.values_list("pk", flat=True)) - open_ids
            yield from ((name, pk) for pk in sorted(succeeded))


def failures_of_earlier_passes(
    kinds: Iterable[Kind], scope: Scope, summary: Summary
) -> tuple[list[Group], list[Group]]:
    """Failed rows that the summary of a pass does not report, grouped by kind and error code: first
    the rows that wait, then the rows that were refused."""
    now, waiting, refused = database_now(), [], []
    reported = Counter((failure.kind, failure.code) for failure in summary.failures)
    for failing_kind in kinds:
        if (condition := scope.condition_for(failing_kind)) is None:
            continue
        for group in _failures_by_code(failing_kind, condition):
            code, message = group["error_code"], group["message"]
            failure_class = group["failure_class"]
            # Failures that the summary reports are subtracted from the waiting rows first.
            reported_count = reported[failing_kind.name, code]
            if (count := group["waiting"] - reported_count) > 0:
                # ``first``: when the first row of the group is due.
                due_in = max(0.0, (group["first"] - now).total_seconds())
                waiting.append(
                    Group(failing_kind.name, count, code, message, due_in, failure_class)
                )
            reported_count = max(0, reported_count - group["waiting"])
            if (count := group["refused"] - reported_count) > 0:
                refused.append(Group(failing_kind.name, count, code, message, None, failure_class))
    return waiting, refused


def _failures_by_code(failing_kind: Kind, condition: Q) -> QuerySet[Work, dict[str, Any]]:
    """For each error code of failed rows: how many rows wait and how many are refused, a message, a
    failure class, and when the first row is due."""
    failing = Work.objects.filter(kind=failing_kind.name, error_code__gt="")
    if condition:
        failing = failing.filter(object_id__in=failing_kind.rows().filter(condition).values("pk"))
    groups = failing.values("error_code").annotate(
        waiting=Count("pk", filter=Q(due_at__isnull=False)),
        refused=Count("pk", filter=Q(due_at__isnull=True)),
        message=Max("error_message"),
        failure_class=Max("error_class"),
        first=Min("due_at"),
    )
    return groups.order_by("error_code")


def _rows(name: str, made_due: Mapping[str, Q]) -> ReconciledQuerySet:
    return kind(name).rows().filter(made_due[name])
