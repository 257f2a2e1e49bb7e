"""Decides whether an object that the LMS does not show counts as deleted there.

A single missing object proves little: after a restored backup, with another database at the same
address, or if the service worker has lost its permissions, everything is missing. So before a run
acts on a missing object, it asks for a sample of objects that were seen in the LMS before, by the
same API. If more than a small share of them is missing, the kind stops until an operator decides
(``--accept-missing``).

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
SAMPLE = 50
#: Objects in a sample if each needs a request of its own.
_ONE_BY_ONE = 10
#: The most rows that are read to count them, or to find a sample.
_COUNTED = 10_000


class TooManyMissing(LmsError):
    """The LMS shows so few of its known objects that no missing object counts as deleted."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "too-many-missing"


@dataclass(frozen=True)
class MissingLimit:
    """The most objects that may be missing: a ``share`` of all known ones (0 to 1), or ``count`` if
    that is more."""

    share: float
    count: int

    def refuse(self, kind: str, missing: int, asked: int, total: int) -> None:
        """Raises TooManyMissing if more are missing. missing: how many of the ``asked`` objects of
        a sample. total: how many objects are known; the share is projected to these."""
        estimated = missing / asked * total if asked else 0.0
        if estimated <= self.count or estimated <= self.share * total:
            return
        found = f"{missing} of {asked} known {kind}s"
        raise TooManyMissing(
            f"{found} are missing in the LMS, so nothing was concluded or changed. Is another "
            "database behind its address? If the LMS really lost them, run this again with "
            "--accept-missing."
        )


def limit() -> MissingLimit:
    """Reads ``USHER_MISSING_SHARE`` (0.05) and ``USHER_MISSING_COUNT`` (20)."""
    return MissingLimit(
        float(getattr(django_settings, "USHER_MISSING_SHARE", 0.05)),
        int(getattr(django_settings, "USHER_MISSING_COUNT", 20)),
    )


@dataclass
class _Sample:
    total: int
    items: Sequence[Any]
    #: None before the LMS was asked; an error when too many are missing; True otherwise.
    verdict: LmsError | bool | None = None
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())


class Evidence:
    """The samples of one run, by kind. accept_missing: missing objects count without a check."""

    def __init__(self, *, accept_missing: bool = False) -> None:
        self.accepts = accept_missing
        self._samples: dict[str, _Sample] = {}

    def offer(self, kind: str, load: Callable[[], tuple[int, Sequence[Any]]]) -> None:
        """Called in the database thread. load: returns how many objects of the kind were seen in
        the LMS, and a sample of them."""
        if kind not in self._samples:
            self._samples[kind] = _Sample(*load())

    def items(self, kind: str) -> Sequence[Any]:
        """The sample of that kind; empty when there is none."""
        sample = self._samples.get(kind)
        return sample.items if sample else ()

    def require(self, kind: str, missing_of: Callable[[Sequence[Any]], int]) -> None:
        """Call before acting on a missing object. missing_of: asks the LMS for these objects and
        returns how many are missing. Raises LmsError when missing objects must not count."""
        sample = self._samples.get(kind)
        if self.accepts or sample is None:
            return
        with sample.lock:
            if sample.verdict is None:
                sample.verdict = self._verdict(kind, sample, missing_of)
        if isinstance(sample.verdict, LmsError):
            raise sample.verdict

    def require_any(self, kind: str, shows: Callable[[Any], bool], *, of: int = 1) -> None:
        """The same for objects that need a request each: the LMS must show at least one of a few
        known objects. shows: asks the LMS for one. of: with fewer known objects than this, missing
        objects count without a check. Raises LmsError."""
        known = self.items(kind)[:_ONE_BY_ONE]

        def missing_of(items: Sequence[Any]) -> int:
            if len(known) >= of and not any(shows(each) for each in known):
                raise TooManyMissing(_none(kind, len(known)))
            return 0

        self.require(kind, missing_of)

    def _verdict(
        self, kind: str, sample: _Sample, missing_of: Callable[[Sequence[Any]], int]
    ) -> LmsError | bool:
        if not sample.items:
            return True
        try:
            missing = missing_of(sample.items)
            limit().refuse(kind, missing, len(sample.items), sample.total)
        except TooManyMissing as error:
            return error
        return True


def _none(kind: str, asked: int) -> str:
    return (
        f"The LMS shows no {kind} of {asked} that have one, so nothing was concluded or changed. "
        "Does something else answer at that address? If the LMS really lost them, run this again "
        "with --accept-missing."
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
    chosen = random.sample(ids, min(len(ids), 8 * SAMPLE))
    one = len(fields) == 1
    hits = list(rows.filter(pk__in=chosen).values_list(*fields, flat=one))
    if len(ids) <= _COUNTED:
        total = rows.order_by().count()
    else:
        total = round(len(hits) / len(chosen) * len(ids))
    found = hits[:SAMPLE]
    if len(found) < SAMPLE:  # a small table, or one with gaps: the oldest and the newest
        for order in ("pk", "-pk"):
            some = table.order_by(order).values("pk")[:_COUNTED]
            near = rows.filter(pk__in=Subquery(some)).order_by(order)
            found += near.values_list(*fields, flat=one)[:SAMPLE]
    found = list(dict.fromkeys(found))
    return max(total, len(found)), random.sample(found, min(SAMPLE, len(found)))
