"""The throughput of the last hour as points of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usher.console.overview.services import Minute

WIDTH, HEIGHT = 600, 120
#: The space above the upper edge of the scale, so that a line there is not cut off.
_TOP_MARGIN = 4


@dataclass(frozen=True)
class Chart:
    """A chart of records per minute. done, failed: the ``points`` of a polyline. area: the
    ``points`` of a polygon. top: the number of records at the upper edge. total_done, total_failed:
    the records of all minutes. last_done: the records of the last minute."""

    done: str
    failed: str
    area: str
    top: int
    total_done: int
    total_failed: int
    last_done: int


def make_chart(minutes: Sequence[Minute]) -> Chart:
    top = _round_up(max((max(minute.done, minute.failed) for minute in minutes), default=0))
    done = _points([minute.done for minute in minutes], top)
    return Chart(
        done=done,
        failed=_points([minute.failed for minute in minutes], top),
        area=f"0,{HEIGHT} {done} {WIDTH},{HEIGHT}",
        top=top,
        total_done=sum(minute.done for minute in minutes),
        total_failed=sum(minute.failed for minute in minutes),
        last_done=minutes[-1].done if minutes else 0,
    )


def _points(values: Sequence[int], top: int) -> str:
    """The ``points`` of a polyline. top: the value at the upper edge."""
    step = WIDTH / max(1, len(values) - 1)
    return " ".join(
        f"{number * step:.1f},{HEIGHT - value / top * (HEIGHT - _TOP_MARGIN):.1f}"
        for number, value in enumerate(values)
    )


def _round_up(value: int) -> int:
    """Returns the smallest number that is at least ``value``, and is 1, 2 or 5 times a power of
    ten."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if value <= factor * size:
                return factor * size
        size *= 10
