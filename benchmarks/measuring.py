"""Rounds measure both implementations in turn, so that other load on the machine affects both."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """A figure of Usher and of its reference, which is the serial implementation unless the subject
    says otherwise.

    reference, ours: one measurement of each round, in ``unit``. The ratio compares the medians: how
    many times better Usher is, or with ``is_share`` the share of the reference's value that Usher
    needs. target_ratio: the lowest ratio that is good enough; with ``is_share`` the highest.
    """

    name: str
    title: str
    unit: str
    target_ratio: float
    more_is_better: bool = False
    is_share: bool = False
    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times better Usher is than the reference; with ``is_share`` the share of the
        reference's value that Usher needs."""
        reference = statistics.median(self.reference)
        ours = statistics.median(self.ours)
        if self.more_is_better or self.is_share:
            return ours / reference
        return reference / ours

    @property
    def meets_target(self) -> bool:
        if self.is_share:
            return self.ratio <= self.target_ratio
        return self.ratio >= self.target_ratio
