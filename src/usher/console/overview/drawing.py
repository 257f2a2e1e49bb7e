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
    """minutes: oldest first."""
    numbers_done = [minute.done for minute in minutes]
    numbers_failed = [minute.failed for minute in minutes]
    top = _round_up(max([*numbers_done, *numbers_failed], default=0))
    done = _points(numbers_done, top)
    return Chart(
        done=done,
        failed=_points(numbers_failed, top),
        area=f"0,{HEIGHT} {done} {WIDTH},{HEIGHT}",
        top=top,
        total_done=sum(numbers_done),
        total_failed=sum(numbers_failed),
        last_done=numbers_done[-1] if minutes else 0,
    )


def _points(values: Sequence[int], top: int) -> str:
    """The ``points`` of a polyline. top: the value at the upper edge."""
    step = WIDTH / max(1, len(values) - 1)
    points = []
    for number, value in enumerate(values):
        x = number * step
        y = HEIGHT - value / top * (HEIGHT - _TOP_MARGIN)
        points.append(f"{x:.1f},{y:.1f}")
    return " ".join(points)


def _round_up(value: int) -> int:
    """Returns the smallest number that is at least ``value``, and is 1, 2 or 5 times a power of
    ten."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if value <= factor * size:
                return factor * size
        size *= 10
