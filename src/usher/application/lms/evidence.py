"""When "the LMS no longer has it" is believed.

One absent object proves little: a restored backup, another database behind the right address or a
service worker without its rights make everything absent. So before a pass concludes anything from
absence, a sample of objects that were seen in the LMS is asked for by the same means. Does it lack
more than a small share of them, the kind stops and a person decides (``--accept-missing``).

That an answer comes from the LMS at all is the client's business: ``LmsClient.accounts``.
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

#: Objects of one sample; what one request may ask for.
SAMPLE = 50
#: Objects that are asked for in a request each.
_ONE_BY_ONE = 10
#: Rows that are read to count them, or to find some to ask for.
_COUNTED = 10_000


class TooManyMissing(LmsError):
    """The LMS lacks so many known objects that nothing is concluded."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "too-many-missing"


@dataclass(frozen=True)
class Limit:
    """A pass may find ``share`` of the known objects missing, or ``count`` where that is more."""

    share: float
    count: int

    def refuse(self, kind: str, missing: int, asked: int, total: int) -> None:
        """Raises TooManyMissing when ``missing`` of ``asked``, out of ``total`` known, are more."""
        estimated = missing / asked * total if asked else 0.0
        if estimated <= self.count or estimated <= self.share * total:
            return
        found = f"{missing} of {asked} known {kind}s"
        raise TooManyMissing(
            f"{found} are missing in the LMS, so nothing was concluded or changed. Is another "
            "database behind its address? If the LMS really lost them, run this again with "
            "--accept-missing."
        )


def limit() -> Limit:
    """``USHER_MISSING_SHARE`` (0.05) and ``USHER_MISSING_COUNT`` (20)."""
    return Limit(
        float(getattr(django_settings, "USHER_MISSING_SHARE", 0.05)),
        int(getattr(django_settings, "USHER_MISSING_COUNT", 20)),
    )


@dataclass
class _Sample:
    total: int
    items: Sequence[Any]
    #: None until it was asked for; an error when it showed too many missing.
    verdict: LmsError | bool | None = None
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())


class Evidence:
    """One for each pass."""

    def __init__(self, *, accept_missing: bool = False) -> None:
        self.accepts = accept_missing
        self._samples: dict[str, _Sample] = {}

    def offer(self, kind: str, load: Callable[[], tuple[int, Sequence[Any]]]) -> None:
        """In the database thread: how many objects of the kind were seen in the LMS, and some."""
        if kind not in self._samples:
            self._samples[kind] = _Sample(*load())

    def items(self, kind: str) -> Sequence[Any]:
        sample = self._samples.get(kind)
        return sample.items if sample else ()

    def require(self, kind: str, missing_of: Callable[[Sequence[Any]], int]) -> None:
        """Before something follows from an absence. missing_of: asks the LMS for these objects
        and tells how many it lacks. Raises LmsError when nothing may be concluded."""
        sample = self._samples.get(kind)
        if self.accepts or sample is None:
            return
        with sample.lock:
            if sample.verdict is None:
                sample.verdict = self._verdict(kind, sample, missing_of)
        if isinstance(sample.verdict, LmsError):
            raise sample.verdict

    def require_any(self, kind: str, shows: Callable[[Any], bool], *, of: int = 1) -> None:
        """The same for what can only be asked for one by one: the LMS shows at least one of some
        known objects. shows: asks the LMS for one. of: fewer known objects prove nothing either
        way, and the absence is believed."""
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
    """About how many rows there are, and these fields of some of them, taken from all over the
    table. Reads the same few thousand rows however large the table is."""
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
