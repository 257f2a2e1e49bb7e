"""Refused records by kind and error code. Counts and lists leave out records that staff ignore."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Count as Counted
from django.db.models import Exists, Max, Min, OuterRef, Q, QuerySet

from usher.application.runs.models import CourseRun
from usher.console import words
from usher.console.refusals.models import Ignored
from usher.engine.clock import database_now
from usher.engine.kinds import Kind
from usher.engine.notify import notify_workers
from usher.engine.registry import all_kinds
from usher.engine.work import Work

#: Rows on a page, and examples in a group.
PAGE_SIZE = 50
EXAMPLES_PER_GROUP = 3
#: The most groups of one kind that are listed.
_MAX_GROUPS = 50
#: Limits of one request that retries records: records, seconds, and rows in a statement.
_MAX_ROWS = 100_000
_MAX_SECONDS = 20.0
_ROWS_PER_STATEMENT = 5000
#: Rows of an export that one query reads.
_ROWS_PER_QUERY = 1000


@dataclass(frozen=True)
class Group:
    """Refused records of one kind and code. first_refused_at, last_refused_at: when the first and
    the last of them were refused. message: the error message of the newest, from the LMS or, as
    ``message_label`` says, from Usher. examples: the newest records."""

    kind: str
    code: str
    count: int
    first_refused_at: datetime
    last_refused_at: datetime
    message: str = ""
    examples: list[Refusal] = field(default_factory=list)

    @property
    def title(self) -> str:
        return words.reason(self.code)

    @property
    def advice(self) -> str:
        return words.advice(self.code, self.kind)

    @property
    def message_label(self) -> str:
        return words.message_label(self.code, self.kind)

    @property
    def kind_title(self) -> str:
        return words.plural(self.kind)


@dataclass(frozen=True)
class Refusal:
    """A refused record. user_pk, run_pk: None if the record has no learner or no run. position: the
    record's position in the list, for the parameter ``before`` of ``newest_refusals``."""

    pk: int
    learner_name: str
    course_key: str
    message: str
    refused_at: datetime
    user_pk: Any = None
    run_pk: int | None = None

    @property
    def position(self) -> str:
        return f"{self.refused_at.isoformat()}|{self.pk}"


def groups() -> list[Group]:
    """All refused records, grouped by kind and code, the largest group first."""
    return groups_since(all_kinds().values())


def groups_since(kinds: Iterable[Kind], since: datetime | None = None) -> list[Group]:
    """Like ``groups``, but only for these kinds. With ``since``, only for records that were refused
    after this time."""
    decisions = IgnoreDecisions()
    groups: list[Group] = []
    for kind in kinds:
        groups += _groups_of(kind, since, decisions)
    return sorted(groups, key=lambda group: (-group.count, group.kind, group.code))


def _groups_of(kind: Kind, since: datetime | None, decisions: IgnoreDecisions) -> Iterator[Group]:
    """The ``_MAX_GROUPS`` largest groups of one kind, the largest first. since: as for
    ``groups_since``."""
    rows = not_ignored(kind, decisions).order_by()
    if since is not None:
        rows = rows.filter(refused_at__gt=since)
    # Counts a column of the index, so that the table is not read.
    grouped = rows.values("error_code").annotate(
        count=Counted("refused_at"), first=Min("refused_at"), last=Max("refused_at")
    )
    for row in grouped.order_by("-count")[:_MAX_GROUPS]:
        code = row["error_code"]
        examples = newest_refusals(kind, code, limit=EXAMPLES_PER_GROUP, decisions=decisions)
        yield Group(
            kind=kind.name,
            code=code,
            count=row["count"],
            first_refused_at=row["first"],
            last_refused_at=row["last"],
            message=examples[0].message if examples else "",
            examples=examples,
        )


class IgnoreDecisions:
    """The decisions to ignore records, read once for a page.

    ignored_codes: kind → ignored codes, each with its ``up_to``: records of the code that were
    refused until then are ignored. kinds_with_ignored_records: the
    kinds of which single records are ignored.
    """

    def __init__(self) -> None:
        self.ignored_codes: dict[str, list[tuple[str, datetime]]] = {}
        whole_codes = Ignored.objects.filter(row_id=None)
        for kind, code, up_to in whole_codes.values_list("kind", "code", "up_to"):
            self.ignored_codes.setdefault(kind, []).append((code, up_to))
        single_records = Ignored.objects.filter(row_id__isnull=False)
        self.kinds_with_ignored_records = set(
            single_records.order_by().values_list("kind", flat=True).distinct()
        )


def not_ignored(kind: Kind, decisions: IgnoreDecisions | None = None) -> QuerySet[Work]:
    """The work of refused records of this kind that are not ignored. decisions: None to read them
    from the database."""
    decisions = decisions or IgnoreDecisions()
    rows = _refused_work(kind)
    for code, up_to in decisions.ignored_codes.get(kind.name, ()):
        rows = rows.exclude(error_code=code, refused_at__lte=up_to)
    if kind.name in decisions.kinds_with_ignored_records:
        rows = rows.filter(~_ignored_one_by_one(kind))
    return rows


def _refused_work(kind: Kind) -> QuerySet[Work]:
    return Work.objects.filter(kind=kind.name, refused_at__isnull=False)


def _ignored_one_by_one(kind: Kind) -> Exists:
    return Exists(
        Ignored.objects.filter(
            kind=kind.name, row_id=OuterRef("object_id"), up_to__gte=OuterRef("refused_at")
        )
    )


def newest_refusals(
    kind: Kind, code: str, limit: int, before: str = "", decisions: IgnoreDecisions | None = None
) -> list[Refusal]:
    """The first ``limit`` records of this kind and code that are refused and not ignored, the last
    refused first.

    before: the ``position`` of the last record on the previous page; '' for the first page.
    decisions: None to read them from the database.
    """
    refused_work = not_ignored(kind, decisions).filter(error_code=code)
    position = _parse_position(before)
    if position is not None:
        refused_work = refused_work.filter(_refused_before(position))
    return describe_refusals(kind, _records(kind, _newest_positions(refused_work, limit)))


class Position(NamedTuple):
    """A record's position in the list with the last refused first. pk: of the record."""

    refused_at: datetime
    pk: int


def _newest_positions(refused_work: QuerySet[Work], limit: int) -> list[Position]:
    """The positions of the first ``limit`` refusals, the last refused first. Reads only columns of
    the index of refusals, so that a group of millions is listed fast."""
    newest_first = refused_work.order_by("-refused_at", "-object_id")
    rows: Any = newest_first.values_list("refused_at", "object_id")[:limit]
    return [Position(refused_at, pk) for refused_at, pk in rows]


def _refused_before(position: Position) -> Q:
    """Returns the condition for records that were refused before this record. Such records come
    after it in a list with the last refused first."""
    at, pk = position
    # The first condition lets the database begin at the position in the index.
    return Q(refused_at__lte=at) & (Q(refused_at__lt=at) | Q(object_id__lt=pk))


def _records(kind: Kind, positions: Sequence[Position]) -> list[Any]:
    """The records at these positions with their work, in the same order. Leaves out records that
    were deleted or are no longer refused."""
    ids = [position.pk for position in positions]
    records = kind.rows().refused().select_related("work").in_bulk(ids)
    return [records[pk] for pk in ids if pk in records]


def _parse_position(before: str) -> Position | None:
    """Reads a ``Refusal.position``; None for '' or another text, which then lists from the
    beginning."""
    at, _, pk = before.partition("|")
    try:
        return Position(datetime.fromisoformat(at).astimezone(UTC), int(pk))
    except (ValueError, OverflowError):
        return None


def describe_refusals(kind: Kind, rows: Sequence[Any]) -> list[Refusal]:
    """Adds the names of learners and the keys of course runs to these records, with two queries."""
    users = _users(kind, rows)
    runs = _runs(kind, rows)
    return [
        Refusal(
            pk=row.pk,
            learner_name=_learner_name(kind, row, users),
            course_key=runs.get(_run_pk(kind, row), ""),
            message=row.error_message,
            refused_at=row.refused_at,
            user_pk=_user_pk(kind, row),
            run_pk=_run_pk(kind, row),
        )
        for row in rows
    ]


def _user_pk(kind: Kind, row: Any) -> Any:
    """The key of the record's learner; None if it has none."""
    return getattr(row, kind.user_field, None) if kind.user_field else None


def _run_pk(kind: Kind, row: Any) -> Any:
    """The key of the record's course run; None if it has none."""
    column = kind.column_of(CourseRun)
    return getattr(row, column) if column else None


def _users(kind: Kind, rows: Sequence[Any]) -> dict[Any, Any]:
    """Key → user, of the records' learners; empty if records of this kind have no learner."""
    if not kind.user_field:
        return {}
    ids = {_user_pk(kind, row) for row in rows} - {None}
    return dict(get_user_model()._default_manager.in_bulk(list(ids)))


def _runs(kind: Kind, rows: Sequence[Any]) -> dict[Any, str]:
    """Key → course key, of the records' course runs."""
    ids = {_run_pk(kind, row) for row in rows} - {None}
    keys = CourseRun.objects.filter(pk__in=ids).values_list("pk", "course_key")
    return dict(keys)


def _learner_name(kind: Kind, row: Any, users: dict[Any, Any]) -> str:
    user = users.get(_user_pk(kind, row))
    if user is not None:
        return str(user.get_username())
    return str(getattr(row, "username", ""))  # a retirement has the name of a deleted user


class RetryResult(NamedTuple):
    """number: of the records that were made due. are_left: whether records are left because of the
    limits of one request."""

    number: int
    are_left: bool


def retry(kind: Kind, code: str, ids: Sequence[int] | None = None) -> RetryResult:
    """Makes refused records due: the records with these ``ids``, or all records of that code that
    are not ignored. Chosen records that are no longer refused are left out."""
    refused = kind.rows().refused()
    if ids is not None:
        result = RetryResult(refused.filter(pk__in=ids).make_due(), are_left=False)
    else:
        result = _retry_all(not_ignored(kind).filter(error_code=code), refused)
    notify_workers()
    return result


def _retry_all(refused_work: QuerySet[Work], refused_records: Any) -> RetryResult:
    """Retries each record once, the first refused first. Leaves out records that are refused again
    meanwhile, and work whose record was deleted."""
    count = 0
    deadline = time.monotonic() + _MAX_SECONDS
    refused_before_now = refused_work.filter(refused_at__lte=database_now())
    remaining = refused_before_now.order_by("refused_at", "object_id")
    while count < _MAX_ROWS and time.monotonic() < deadline:
        batch = list(remaining.values_list("refused_at", "object_id")[:_ROWS_PER_STATEMENT])
        if not batch:
            return RetryResult(count, are_left=False)
        count += refused_records.filter(pk__in=[pk for _, pk in batch]).make_due()
        # Continue after the last record of the batch. The first condition lets the database begin
        # at that position in the index.
        at, pk = batch[-1]
        remaining = remaining.filter(
            Q(refused_at__gte=at) & (Q(refused_at__gt=at) | Q(object_id__gt=pk))
        )
    return RetryResult(count, are_left=remaining.exists())


def ignore(kind: Kind, code: str, note: str, by: Any, ids: Sequence[int] | None = None) -> int:
    """Hides records that are refused now with that code: the records with these ``ids``, or all.
    Returns their number.

    A record that has been refused for another reason meanwhile stays visible.
    """
    now = database_now()
    group_key = {"kind": kind.name, "code": code}
    if ids is None:
        count = not_ignored(kind).filter(error_code=code).count()
        if count:
            Ignored.objects.filter(**group_key, row_id=None).delete()
            Ignored.objects.create(**group_key, up_to=now, note=note, by=by)
        return count
    refused = _refused_work(kind).filter(error_code=code, object_id__in=ids)
    ids_to_ignore = list(refused.values_list("object_id", flat=True))
    Ignored.objects.filter(kind=kind.name, row_id__in=ids_to_ignore).delete()
    Ignored.objects.bulk_create(
        Ignored(**group_key, row_id=pk, up_to=now, note=note, by=by) for pk in ids_to_ignore
    )
    return len(ids_to_ignore)


def last_ignore_decisions() -> list[Ignored]:
    """The last hundred decisions to ignore records."""
    return list(Ignored.objects.select_related("by").order_by("-id")[:100])


def unignore(pk: int) -> Ignored | None:
    """Deletes a decision to ignore records, and returns it; None if there is no such decision."""
    row = Ignored.objects.filter(pk=pk).first()
    if row is not None:
        Ignored.objects.filter(pk=pk).delete()
    return row


def export_rows(kind: Kind, code: str) -> Iterator[Refusal]:
    """All records of a group, the last refused first. Reads them page by page."""
    refused_work = not_ignored(kind).filter(error_code=code)
    positions = _newest_positions(refused_work, _ROWS_PER_QUERY)
    while positions:
        yield from describe_refusals(kind, _records(kind, positions))
        remaining = refused_work.filter(_refused_before(positions[-1]))
        positions = _newest_positions(remaining, _ROWS_PER_QUERY)


class TitledRefusal(NamedTuple):
    """A refused record with the title of its kind and its error code."""

    kind_title: str
    code: str
    refusal: Refusal


def newest_refusals_of_all(kinds: Iterable[Kind], limit: int) -> list[TitledRefusal]:
    """The last ``limit`` refused records of these kinds, the last refused first."""
    newest_of_each_kind = []
    decisions = IgnoreDecisions()
    for kind in kinds:
        kind_title = words.singular(kind.name)
        records = _records(kind, _newest_positions(not_ignored(kind, decisions), limit))
        refusals = describe_refusals(kind, records)
        for record, refusal in zip(records, refusals, strict=True):
            newest_of_each_kind.append(TitledRefusal(kind_title, record.error_code, refusal))
    newest_of_each_kind.sort(key=lambda titled: titled.refusal.refused_at, reverse=True)
    return newest_of_each_kind[:limit]
