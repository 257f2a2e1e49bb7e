"""Decides whether an object that the LMS does not show counts as deleted in the LMS.

A single missing object proves little: after a restored backup, with another database at the same
address, or if the service worker has lost its permissions, everything is missing. So before a pass
acts on a missing object, the pass requests, from the same API, a sample of objects that were seen
in the LMS before. If more than a small share of them is missing, the kind stops until an operator
decides (``--accept-missing``).

Whether the answer comes from an LMS at all is checked by the client: ``LmsClient.accounts``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings as django_settings
from django.db.models import Max, Min, Subquery

from usher.client.errors import LmsError
from usher.contract.failures import FailureClass

#: Objects in a sample: at most as many as one request may ask for.
SAMPLE_SIZE = 50
#: Objects in a sample if each needs a request of its own.
_SMALL_SAMPLE_SIZE = 10
#: The most rows that are read to count objects, or to find a sample.
_MAX_COUNTED = 10_000


class TooManyMissing(LmsError):
    """The LMS shows so few of its known objects that no missing object counts as deleted."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "too-many-missing"


@dataclass(frozen=True)
class MissingLimit:
    """The most objects that may be missing: ``share`` (0 to 1) of all known objects, or ``count``
    if this number is larger."""

    share: float
    count: int

    def check(self, kind: str, *, missing: int, sample_size: int, total: int) -> None:
        """Raises TooManyMissing if more objects are missing than allowed. missing: how many objects
        of the sample are missing. total: the number of all known objects; the sample's share of
        missing objects is assumed for all of them."""
        estimated = missing / sample_size * total if sample_size else 0.0
        if estimated <= self.count or estimated <= self.share * total:
            return
        raise TooManyMissing(
            f"{missing} of {sample_size} known {kind}s are missing in the LMS, so nothing was "
            "concluded or changed. Is another database behind the LMS's address? If the LMS really "
            "lost them, run the command again with --accept-missing."
        )


def missing_limit() -> MissingLimit:
    """Reads ``USHER_MISSING_SHARE`` (0.05) and ``USHER_MISSING_COUNT`` (20)."""
    return MissingLimit(
        float(getattr(django_settings, "USHER_MISSING_SHARE", 0.05)),
        int(getattr(django_settings, "USHER_MISSING_COUNT", 20)),
    )


@dataclass
class _Sample:
    """Objects of one kind that were seen in the LMS: how many in all, and some of them."""

    total: int
    items: Sequence[Any]
    #: None before the LMS was asked; an error when too many are missing; True otherwise.
    verdict: LmsError | bool | None = None
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())


class Evidence:
    """The samples of one pass, by kind. accept_missing: missing objects count without a check."""

    def __init__(self, *, accept_missing: bool = False) -> None:
        self.accept_missing = accept_missing
        self._samples: dict[str, _Sample] = {}

    def offer(self, kind: str, load: Callable[[], tuple[int, Sequence[Any]]]) -> None:
        """Called in the database thread. load: returns how many objects of the kind were seen in
        the LMS, and a sample of them."""
        if kind not in self._samples:
            total, items = load()
            self._samples[kind] = _Sample(total, items)

    def items(self, kind: str) -> Sequence[Any]:
        """The sample of that kind; empty when there is none."""
        sample = self._samples.get(kind)
        return sample.items if sample else ()

    def require(self, kind: str, count_missing: Callable[[Sequence[Any]], int]) -> None:
        """Call before acting on a missing object. count_missing: asks the LMS for these objects and
        returns how many are missing. Raises LmsError when missing objects must not count. Checks
        nothing if no sample was offered."""
        sample = self._samples.get(kind)
        if self.accept_missing or sample is None:
            return
        with sample.lock:
            if sample.verdict is None:
                sample.verdict = self._judge(kind, sample, count_missing)
        if isinstance(sample.verdict, LmsError):
            raise sample.verdict

    def require_any(self, kind: str, shows: Callable[[Any], bool], *, min_known: int = 1) -> None:
        """Like ``require``, for objects that need a request each: the LMS must show at least one of
        a few known objects. shows: asks the LMS for one object, and returns whether it has the
        object. min_known: with fewer known objects, missing objects count without a check. Raises
        LmsError."""
        known_items = self.items(kind)[:_SMALL_SAMPLE_SIZE]

        def require_one(whole_sample: Sequence[Any]) -> int:
            """Raises TooManyMissing if none is shown. Otherwise returns 0 missing objects, which
            passes the check of their share."""
            is_checked = len(known_items) >= min_known
            if is_checked and not any(shows(item) for item in known_items):
                raise TooManyMissing(_text_of_none(kind, len(known_items)))
            return 0

        self.require(kind, require_one)

    def _judge(
        self, kind: str, sample: _Sample, count_missing: Callable[[Sequence[Any]], int]
    ) -> LmsError | bool:
        """The value for ``_Sample.verdict``. Raises LmsError if the LMS can't be asked."""
        if not sample.items:
            return True
        try:
            missing = count_missing(sample.items)
            missing_limit().check(
                kind, missing=missing, sample_size=len(sample.items), total=sample.total
            )
        except TooManyMissing as error:
            return error
        return True


def _text_of_none(kind: str, count: int) -> str:
    return (
        f"The LMS shows no {kind} for any of {count} records that had one, so nothing was "
        "concluded or changed. Does something else answer at the LMS's address? If the LMS really "
        "lost them, run the command again with --accept-missing."
    )


def sample_of(rows: Any, *fields: str) -> tuple[int, list[Any]]:
    """An estimate of the number of rows, and these fields of a random sample of them.

    Reads at most some ten thousand rows, however large the table is. The sample has values for one
    field and tuples for several.
    """
    table = rows.model._default_manager
    ends = table.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return 0, []
    ids = range(ends["first"], ends["last"] + 1)
    # More ids than the sample has objects, because many ids may have no row, or a row that is not
    # among ``rows``.
    sample_ids = random.sample(ids, min(len(ids), 8 * SAMPLE_SIZE))
    is_one_field = len(fields) == 1
    hits = list(rows.filter(pk__in=sample_ids).values_list(*fields, flat=is_one_field))
    if len(ids) <= _MAX_COUNTED:
        total = rows.order_by().count()
    else:
        total = round(len(hits) / len(sample_ids) * len(ids))
    sample = hits[:SAMPLE_SIZE]
    if len(sample) < SAMPLE_SIZE:  # a small table, or one with gaps: the oldest and the newest
        for order in ("pk", "-pk"):
            ids_at_end = table.order_by(order).values("pk")[:_MAX_COUNTED]
            rows_at_end = rows.filter(pk__in=Subquery(ids_at_end)).order_by(order)
            sample += rows_at_end.values_list(*fields, flat=is_one_field)[:SAMPLE_SIZE]
    sample = list(dict.fromkeys(sample))
    return max(total, len(sample)), random.sample(sample, min(SAMPLE_SIZE, len(sample)))
