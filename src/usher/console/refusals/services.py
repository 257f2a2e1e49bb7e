"""Refused records, by kind and code; those that staff ignore are hidden from counts and lists."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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

#: Rows of a page, and examples of a group.
PAGE = 50
EXAMPLES = 3
#: Records that one request retries at most, seconds that it takes at most, rows of a statement.
_AT_ONCE = 100_000
_SECONDS = 20.0
_ROWS = 5000
#: Rows of an export at most; the newest. Rows that it reads at once.
EXPORTED = 200_000
_EXPORTED_AT_ONCE = 1000


@dataclass(frozen=True)
class Group:
    """since, newest: when the first and the last of them was refused. message: the LMS's words
    about the newest."""

    kind: str
    code: str
    count: int
    since: datetime
    newest: datetime
    message: str = ""
    examples: list[Example] = field(default_factory=list)

    @property
    def title(self) -> str:
        return words.reason(self.code)

    @property
    def advice(self) -> str:
        return words.advice(self.code, self.kind)

    @property
    def said(self) -> str:
        return words.said(self.code, self.kind)

    @property
    def kind_title(self) -> str:
        return words.many(self.kind)


@dataclass(frozen=True)
class Example:
    """A refused record for people. user_pk, run_pk: None where it has no such. sort: its place in
    the list."""

    pk: int
    who: str
    where: str
    message: str
    parked_at: datetime
    user_pk: Any = None
    run_pk: int | None = None

    @property
    def sort(self) -> str:
        return f"{self.parked_at.isoformat()}|{self.pk}"


def groups() -> list[Group]:
    """By kind and code, the most frequent first."""
    return groups_since(all_kinds().values())


def groups_since(kinds: Iterable[Kind], since: datetime | None = None) -> list[Group]:
    """Of these kinds, only what was refused after that moment."""
    hidden = Hidden()
    found = [group for kind in kinds for group in _groups_of(kind, since, hidden)]
    return sorted(found, key=lambda group: (-group.count, group.kind, group.code))


def _groups_of(kind: Kind, since: datetime | None, hidden: Hidden) -> Iterator[Group]:
    rows = shown(kind, hidden).order_by()
    if since is not None:
        rows = rows.filter(parked_at__gt=since)
    # Counts a column of the index: the table itself is not read.
    grouped = rows.values("error_code").annotate(
        count=Counted("parked_at"), since=Min("parked_at"), newest=Max("parked_at")
    )
    for row in grouped.order_by("-count")[:50]:
        examples = newest(kind, row["error_code"], EXAMPLES, hidden=hidden)
        yield Group(
            kind.name,
            row["error_code"],
            row["count"],
            row["since"],
            row["newest"],
            examples[0].message if examples else "",
            examples,
        )


class Hidden:
    """What staff ignore, read once for a whole page."""

    def __init__(self) -> None:
        self.rules: dict[str, list[tuple[str, datetime]]] = {}
        for name, code, up_to in Ignored.objects.filter(row_id=None).values_list(
            "kind", "code", "up_to"
        ):
            self.rules.setdefault(name, []).append((code, up_to))
        single = Ignored.objects.filter(row_id__isnull=False)
        self.single = set(single.order_by().values_list("kind", flat=True).distinct())


def shown(kind: Kind, hidden: Hidden | None = None) -> QuerySet[Work]:
    """The work of refused records of that kind that nobody ignores."""
    hidden = hidden or Hidden()
    rows = _refused(kind)
    for code, up_to in hidden.rules.get(kind.name, ()):
        rows = rows.exclude(error_code=code, parked_at__lte=up_to)
    if kind.name in hidden.single:
        rows = rows.filter(~_ignored_one_by_one(kind))
    return rows


def _refused(kind: Kind) -> QuerySet[Work]:
    return Work.objects.filter(kind=kind.name, parked_at__isnull=False)


def _ignored_one_by_one(kind: Kind) -> Exists:
    return Exists(
        Ignored.objects.filter(
            kind=kind.name, row_id=OuterRef("object_id"), up_to__gte=OuterRef("parked_at")
        )
    )


def newest(
    kind: Kind, code: str, limit: int, before: str = "", hidden: Hidden | None = None
) -> list[Example]:
    """Of one group, the last refused first. before: ``Example.sort`` of the last one shown."""
    works = shown(kind, hidden).filter(error_code=code)
    if place := _place(before):
        works = works.filter(_before(*place))
    return examples(kind, _records(kind, [pk for _, pk in _newest_places(works, limit)]))


def _newest_places(works: QuerySet[Work], limit: int) -> list[tuple[datetime, int]]:
    """When they were refused and their records' ids, the last refused first; from the index."""
    newest_first = works.order_by("-parked_at", "-object_id")
    return list(newest_first.values_list("parked_at", "object_id")[:limit])


def _before(at: datetime, pk: int) -> Q:
    """What comes after this place in a list with the last refused first."""
    # The first condition lets the database begin there in the index.
    return Q(parked_at__lte=at) & (Q(parked_at__lt=at) | Q(object_id__lt=pk))


def _records(kind: Kind, ids: Sequence[int]) -> list[Any]:
    """The records with their work, in the order of ``ids``; without those that are gone, or not
    refused any more."""
    found = kind.rows().parked().select_related("work").in_bulk(ids)
    return [found[pk] for pk in ids if pk in found]


def _place(before: str) -> tuple[datetime, int] | None:
    at, _, pk = before.partition("|")
    try:
        return datetime.fromisoformat(at), int(pk)
    except ValueError:
        return None


def examples(kind: Kind, rows: Sequence[Any]) -> list[Example]:
    """With the names of learners and runs, in two queries for all of them."""
    users = _users(kind, rows)
    runs = _runs(kind, rows)
    return [
        Example(
            pk=row.pk,
            who=_who(kind, row, users),
            where=runs.get(_run_pk(kind, row), ""),
            message=row.error_message,
            parked_at=row.parked_at,
            user_pk=_user_pk(kind, row),
            run_pk=_run_pk(kind, row),
        )
        for row in rows
    ]


def _user_pk(kind: Kind, row: Any) -> Any:
    return getattr(row, kind.user_field, None) if kind.user_field else None


def _run_pk(kind: Kind, row: Any) -> Any:
    column = kind.column_of(CourseRun)
    return getattr(row, column) if column else None


def _users(kind: Kind, rows: Sequence[Any]) -> dict[Any, Any]:
    if not kind.user_field:
        return {}
    ids = {_user_pk(kind, row) for row in rows}
    return dict(get_user_model()._default_manager.in_bulk([pk for pk in ids if pk is not None]))


def _runs(kind: Kind, rows: Sequence[Any]) -> dict[Any, str]:
    from usher.application.runs.models import CourseRun

    ids = {_run_pk(kind, row) for row in rows} - {None}
    found = CourseRun.objects.filter(pk__in=ids).values_list("pk", "course_key")
    return dict(found)


def _who(kind: Kind, row: Any, users: dict[Any, Any]) -> str:
    user = users.get(_user_pk(kind, row))
    if user is not None:
        return str(user.get_username())
    return str(getattr(row, "username", ""))


def retry(kind: Kind, code: str, ids: Sequence[int] | None = None) -> tuple[int, bool]:
    """Makes refused records due: those of ``ids``, or all of that code that are not ignored.

    How many, and whether some are left because they are too many for one request.
    """
    # Of those chosen, what a worker has retried meanwhile is left alone.
    refused = kind.rows().parked()
    if ids is not None:
        count, are_left = refused.filter(pk__in=ids).make_due(), False
    else:
        count, are_left = _retry_all(shown(kind).filter(error_code=code), refused)
    notify_workers()
    return count, are_left


def _retry_all(works: QuerySet[Work], refused: Any) -> tuple[int, bool]:
    """Retries each record once, the first refused first. Those that are refused again meanwhile
    are not retried again, and work without a record is passed over."""
    until, count = time.monotonic() + _SECONDS, 0
    left = works.filter(parked_at__lte=database_now()).order_by("parked_at", "object_id")
    while count < _AT_ONCE and time.monotonic() < until:
        some = list(left.values_list("parked_at", "object_id")[:_ROWS])
        if not some:
            return count, False
        count += refused.filter(pk__in=[pk for _, pk in some]).make_due()
        at, pk = some[-1]
        left = left.filter(Q(parked_at__gte=at) & (Q(parked_at__gt=at) | Q(object_id__gt=pk)))
    return count, left.exists()


def ignore(kind: Kind, code: str, note: str, by: Any, ids: Sequence[int] | None = None) -> int:
    """Hides records that are refused now with that code: those of ``ids``, or all. How many.

    A record that was refused for another reason meanwhile stays visible.
    """
    now, decision = database_now(), {"kind": kind.name, "code": code}
    if ids is None:
        if count := shown(kind).filter(error_code=code).count():
            Ignored.objects.filter(**decision, row_id=None).delete()
            Ignored.objects.create(**decision, up_to=now, note=note, by=by)
        return count
    refused = _refused(kind).filter(error_code=code, object_id__in=ids)
    found = list(refused.values_list("object_id", flat=True))
    Ignored.objects.filter(kind=kind.name, row_id__in=found).delete()
    Ignored.objects.bulk_create(
        Ignored(**decision, row_id=pk, up_to=now, note=note, by=by) for pk in found
    )
    return len(found)


def ignored() -> list[Ignored]:
    """The last decisions to ignore something."""
    return list(Ignored.objects.select_related("by").order_by("-id")[:100])


def unignore(pk: int) -> Ignored | None:
    """Shows again what was hidden; None when there is no such decision."""
    row = Ignored.objects.filter(pk=pk).first()
    if row is not None:
        Ignored.objects.filter(pk=pk).delete()
    return row


def exported(kind: Kind, code: str) -> Iterator[Example]:
    """All of a group, at most ``EXPORTED``, page by page."""
    works = shown(kind).filter(error_code=code)
    rest, left = works, EXPORTED
    while places := _newest_places(rest, min(_EXPORTED_AT_ONCE, left)):
        yield from examples(kind, _records(kind, [pk for _, pk in places]))
        rest, left = works.filter(_before(*places[-1])), left - len(places)


def newest_of_all(kinds: Iterable[Kind], limit: int) -> list[tuple[str, str, Example]]:
    """The last refused records of these kinds: kind for people, code, record."""
    found, hidden = [], Hidden()
    for kind in kinds:
        rows = _records(kind, [pk for _, pk in _newest_places(shown(kind, hidden), limit)])
        found += [
            (words.one(kind.name), row.error_code, example)
            for row, example in zip(rows, examples(kind, rows), strict=True)
        ]
    return sorted(found, key=lambda each: each[2].parked_at, reverse=True)[:limit]
