"""Rounds measure both implementations in turn, so that other load on the machine affects both."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """reference, ours: one measurement of each round, in ``unit``. The ratio compares the medians:
    how many times better Usher is, or with ``is_share`` the share of the reference's value that
    Usher needs. target: the lowest ratio that is good enough; with ``is_share`` the highest."""

    name: str
    title: str
    unit: str
    target: float
    more_is_better: bool = False
    is_share: bool = False
    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        reference, own = statistics.median(self.reference), statistics.median(self.ours)
        return own / reference if self.more_is_better or self.is_share else reference / own

    @property
    def meets_target(self) -> bool:
        return self.ratio <= self.target if self.is_share else self.ratio >= self.target
