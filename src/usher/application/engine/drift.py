"""Compares both sides and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from usher.application.accounts.models import LmsAccount
from usher.application.adapter import adapter
from usher.application.engine.options import options
from usher.application.enrollments.models import Enrollment
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun
from usher.client.client import LmsClient
from usher.client.payloads import read_run

#: The kinds that can be compared.
KINDS = ("account", "enrollment", "run")
#: Learners to a request, which is what the platform allows.
_LEARNERS = 100
_LATER = "waits for the engine"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Difference:
    """kind; what: the learner or run; field; here and there: what each side has.

    note: why it is so, when that is known: parked with a reason, or waiting for the engine.
    """

    kind: str
    what: str
    field: str
    here: str
    there: str
    note: str = ""


def drift(kinds: Iterable[str] = KINDS) -> Iterator[Difference]:
    """What differs, as it is found. Raises LmsError when the LMS can't be asked."""
    lms = client()
    if "account" in kinds:
        yield from _accounts(lms)
    if "enrollment" in kinds:
        yield from _enrollments(lms)
    if "run" in kinds:
        yield from _runs(lms)


def _accounts(lms: LmsClient) -> Iterator[Difference]:
    for rows in _slices(LmsAccount.objects.select_related("user"), 200):
        for row, seen in _concurrently(rows, lambda row: lms.account(row.username)):
            if seen is None:
                if row.is_active:
                    yield _differs("account", row, row.username, "exists", "yes", "no")
                continue
            if not row.is_ready:
                yield _differs("account", row, row.username, "made by us", "no", "yes")
            if row.is_active != seen.is_active and not row.is_active:
                yield _differs("account", row, row.username, "active", "no", "yes")
            email = adapter().email(row.user)
            if seen.email.lower() != email.lower():
                yield _differs("account", row, row.username, "email", email, seen.email)


def _enrollments(lms: LmsClient) -> Iterator[Difference]:
    ready = LmsAccount.objects.filter(created_in_lms_at__isnull=False)
    for accounts in _slices(ready, _LEARNERS * 8):
        groups = [accounts[i : i + _LEARNERS] for i in range(0, len(accounts), _LEARNERS)]
        there: dict[tuple[str, str], Any] = {}
        for _, found in _concurrently(
            groups, lambda group: list(lms.enrollments_of([a.username for a in group]))
        ):
            there |= {(e.username, e.course_key): e for e in found}
        names = {account.user_id: account.username for account in accounts}
        rows = Enrollment.objects.filter(user_id__in=names).select_related("run")
        for row in rows.iterator(chunk_size=500):
            what = f"{names[row.user_id]} in {row.run.course_key}"
            seen = there.pop((names[row.user_id], row.run.course_key), None)
            yield from _enrollment(row, what, seen)
        for (username, key), seen in there.items():
            if seen.is_active:
                what = f"{username} in {key}"
                yield Difference("enrollment", what, "exists", "no", "yes", "unknown here")


def _enrollment(row: Enrollment, what: str, seen: Any) -> Iterator[Difference]:
    is_active = bool(seen and seen.is_active)
    if row.is_active != is_active:
        yield _differs("enrollment", row, what, "active", _yes(row.is_active), _yes(is_active))
    elif is_active and row.mode != seen.mode:
        yield _differs("enrollment", row, what, "mode", row.mode, seen.mode)


def _runs(lms: LmsClient) -> Iterator[Difference]:
    known = sync.known_runs()
    unseen = set(known)
    for page in sync.pages(lms, lambda seconds: None, patience=1800.0):
        for raw in page.results:
            key = str(raw.get("course_id"))
            unseen.discard(key)
            pk, mark = known.get(key, (0, ""))
            if not pk:
                yield Difference("run", key, "exists", "no", "yes", _LATER)
            elif mark != sync.digest(raw):
                yield from _run(pk, raw)
    for key in sorted(unseen):
        yield Difference("run", key, "exists", "yes", "no")


def _run(pk: int, raw: dict[str, Any]) -> Iterator[Difference]:
    row, seen = CourseRun.objects.get(pk=pk), read_run(raw)
    for name in sync.FOLLOWED:
        here, there = getattr(row, name), getattr(seen, name)
        if here != there:
            yield _differs("run", row, row.course_key, name, str(here), str(there))


def _differs(kind: str, row: Any, what: str, field: str, here: str, there: str) -> Difference:
    note = ""
    if row.parked_at:
        note = f"parked: {row.error_message}"
    elif row.next_attempt_at:
        note = f"{_LATER}: {row.error_message}" if row.error_message else _LATER
    return Difference(kind, what, field, here, there, note)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _slices(rows: Any, size: int) -> Iterator[list[Any]]:
    """By ranges of ids: memory doesn't grow with the table."""
    last = 0
    while found := list(rows.filter(pk__gt=last).order_by("pk")[:size]):
        yield found
        last = found[-1].pk


def _concurrently(items: list[T], ask: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    with ThreadPoolExecutor(options().concurrency) as pool:
        yield from zip(items, pool.map(ask, items), strict=True)
