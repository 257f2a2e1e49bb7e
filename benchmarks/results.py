"""The results as a table, as JSON and as pictures."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drawing import Bar, Wait, draw, draw_waits
from benchmarks.measures.console import TARGET_MS as CONSOLE_MS
from benchmarks.measures.flat import HIGHEST_RATIO, OperationTimes
from benchmarks.measures.interactive import TARGET_SECONDS, WaitTimes, percentile
from benchmarks.measures.memory import TARGET_MB
from benchmarks.measures.sidecar import FullPass
from benchmarks.measuring import Figure

#: Allowed SQL statements: in the caller, in the worker, in a pass without due rows.
STATEMENTS = {"enroll": 8, "worker": 12, "empty_pass": 2}


@dataclass
class Results:
    """A value that is None or empty was not measured this time.

    rss_mb: peak memory, in megabytes, of a check of ``checked`` accounts, which took
    ``check_seconds``. on_mariadb: figure → value. console: page → milliseconds, with
    ``console_learners`` learners in the database. sidecar: a check in which no learner is due.
    waits: how long people waited while ``backlog`` rows were due. operation_times: results of the
    subject ``flat``. statements: operation → number of SQL statements. stalled: the result of the
    subject ``redis``.
    """

    machine: str
    is_quick: bool
    figures: list[Figure] = field(default_factory=list)
    rss_mb: float | None = None
    checked: int = 0
    check_seconds: float = 0.0
    on_mariadb: dict[str, Any] | None = None
    console: dict[str, float] | None = None
    console_learners: int = 0
    sidecar: FullPass | None = None
    waits: list[WaitTimes] = field(default_factory=list)
    backlog: int = 0
    operation_times: OperationTimes | None = None
    statements: dict[str, int] = field(default_factory=dict)
    stalled: Figure | None = None

    def add(self, *figures: Figure) -> None:
        self.figures.extend(figures)

    def table(self) -> str:
        """The results for people, each with its target and whether it was met."""
        lines = [
            f"{'':44} {'today':>10} {'Usher':>10}  {'ratio':>8}  {'target':>8}",
            *(_figure_line(figure) for figure in self.figures),
            *self._single_figure_lines(),
            *self._wait_lines(),
            *self._operation_time_lines(),
            *self._statement_lines(),
        ]
        return "\n".join(lines)

    def _single_figure_lines(self) -> list[str]:
        """Lines for figures of Usher without a reference."""
        lines = []
        if self.rss_mb is not None:
            title = f"Memory of a check of {self.checked:,} learners"
            mark = _mark(self.rss_mb < TARGET_MB)
            lines.append(
                f"{title:44} {'':10} {self.rss_mb:8.0f}MB  {'':8}  < {TARGET_MB}MB  {mark}"
            )
        if self.sidecar is not None:
            title = f"Sidecar's check of {self.sidecar.learners:,} learners"
            times = f"{self.sidecar.seconds:.1f} s, then {self.sidecar.later_seconds:.1f} s"
            lines.append(f"{title:44} {times}, {self.sidecar.mb:.0f} MB")
        for name, value in (self.on_mariadb or {}).items():
            title = f"LMS on MariaDB: {name}"
            lines.append(f"{title:44} {'':10} {value!s:>10}")
        for name, milliseconds in (self.console or {}).items():
            title = f"Console: {name}"
            mark = _mark(milliseconds <= CONSOLE_MS)
            lines.append(
                f"{title:44} {'':10} {milliseconds:8.0f}ms  {'':8}  ≤ {CONSOLE_MS}ms  {mark}"
            )
        return lines

    def _wait_lines(self) -> list[str]:
        if not self.waits:
            return []
        title = f"While {self.backlog:,} rows are due"
        lines = ["", f"{title:44} {'median':>10} {'99%':>10}"]
        for wait in self.waits:
            worker = f"{wait.api} API, {wait.worker} (s)"
            lines.append(_wait_line(f"sign-up to token, {worker}", wait.sign_ups))
            lines.append(_wait_line(f"enroll to LMS, {worker}", wait.enrollments))
        return lines

    def _operation_time_lines(self) -> list[str]:
        if self.operation_times is None:
            return []
        few, many = self.operation_times.sizes
        lines = ["", f"{'Learners (ms)':44} {few:10,} {many:10,}  {'ratio':>8}  {'target':>8}"]
        for operation, milliseconds in self.operation_times.milliseconds.items():
            ratio = self.operation_times.ratio(operation)
            mark = _mark(ratio <= HIGHEST_RATIO)
            lines.append(
                f"{operation.replace('_', ' '):44} {milliseconds[few]:10.2f} "
                f"{milliseconds[many]:10.2f}  {ratio:7.3g}x  ≤ {HIGHEST_RATIO:g}x  {mark}"
            )
        return lines

    def _statement_lines(self) -> list[str]:
        if not self.statements:
            return []
        lines = ["", f"{'Statements':44} {'found':>10}"]
        for name, count in self.statements.items():
            allowed = STATEMENTS[name]
            mark = _mark(count <= allowed)
            lines.append(f"{name.replace('_', ' '):44} {count:10}  {'':18}  ≤ {allowed}  {mark}")
        return lines

    def write(self, path: Path) -> None:
        """Writes the results. Figures that were not measured this time keep their values in the
        file."""
        stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        ratios = stored.get("ratios", {})
        rounds = stored.get("rounds", {})
        for figure in self.figures:
            if figure is not self.stalled:  # which is stored as "redis_stalled"
                ratios[figure.name] = round(figure.ratio, 2)
            rounds[figure.name] = {
                "title": figure.title,
                "unit": figure.unit,
                "reference": [round(value, 4) for value in figure.reference],
                "usher": [round(value, 4) for value in figure.ours],
            }
        memory = stored.get("rss_mb_1m_learners")
        if self.rss_mb is not None:
            memory = round(self.rss_mb, 1)
        data = {
            "ratios": ratios,
            **self._other_figures(stored),
            "rss_mb_1m_learners": memory,
            "rss_learners": self.checked or stored.get("rss_learners"),
            **self._sidecar_figures(stored),
            "lms_on_mariadb": self.on_mariadb or stored.get("lms_on_mariadb"),
            "console_ms": self.console or stored.get("console_ms"),
            "console_learners": self.console_learners or stored.get("console_learners"),
            "machine": self.machine,
            "quick": self.is_quick,
            "rounds": rounds,
        }
        path.write_text(json.dumps(data, indent=1) + "\n")

    def _sidecar_figures(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The sidecar's figures, as measured or as in the file."""
        if self.sidecar is None:
            return {name: value for name, value in stored.items() if name.startswith("sidecar_")}
        return {
            "sidecar_import_seconds": round(self.sidecar.seconds, 2),
            "sidecar_later_look_seconds": round(self.sidecar.later_seconds, 2),
            "sidecar_rss_mb": round(self.sidecar.mb, 1),
            "sidecar_learners": self.sidecar.learners,
        }

    def _other_figures(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The figures in ``names``, as measured this time or as in the file. Leaves out figures
        that were never measured."""
        names = (
            "interactive_p99_seconds",
            "interactive_backlog",
            "flat",
            "flat_learners",
            "statements",
            "redis_stalled",
        )
        values = {name: stored[name] for name in names if name in stored}
        if self.waits:
            longest_p99: dict[str, float] = {}  # API → the longest with any kind of worker
            for wait in self.waits:
                longest_p99[wait.api] = round(max(wait.p99, longest_p99.get(wait.api, 0.0)), 2)
            values["interactive_p99_seconds"] = longest_p99
            values["interactive_backlog"] = self.backlog
        if self.operation_times is not None:
            operations = self.operation_times.milliseconds
            values["flat"] = {
                name: round(self.operation_times.ratio(name), 2) for name in operations
            }
            values["flat_learners"] = list(self.operation_times.sizes)
        if self.statements:
            values["statements"] = self.statements
        if self.stalled is not None:
            values["redis_stalled"] = round(self.stalled.ratio, 2)
        return values

    def draw(self, path: Path) -> None:
        """Draws the ratios into the file at ``path``, and the waits into ``interactive.svg`` in the
        same folder."""
        bars = []
        for figure in self.figures:
            compares_with_serial_calls = figure.name not in ("celery_4_over_1", "redis_stalled")
            if compares_with_serial_calls and not figure.is_share:
                bars.append(Bar(figure.title, figure.ratio, figure.target_ratio))
        path.parent.mkdir(parents=True, exist_ok=True)
        if bars:
            path.write_text(draw("How many times faster than serial calls", bars))
        if self.waits:
            waits = []
            for wait in self.waits:
                worker = f"{wait.api} API, {wait.worker}"
                waits.append(_wait_bar(f"sign-up, {worker}", wait.sign_ups))
                waits.append(_wait_bar(f"enroll, {worker}", wait.enrollments))
            title = f"What a person waits for while {self.backlog:,} rows are due"
            path.with_name("interactive.svg").write_text(draw_waits(title, waits, TARGET_SECONDS))


def _mark(is_met: bool) -> str:
    """Whether a target was met, in a word."""
    return "ok" if is_met else "MISSED"


def _figure_line(figure: Figure) -> str:
    title = f"{figure.title} ({figure.unit})"
    reference = statistics.median(figure.reference)
    ours = statistics.median(figure.ours)
    bound = "≤" if figure.is_share else "≥"
    return (
        f"{title:44} {reference:10.4g} {ours:10.4g}  {figure.ratio:7.3g}x  "
        f"{bound} {figure.target_ratio:g}x  {_mark(figure.meets_target)}"
    )


def _wait_line(title: str, seconds: list[float]) -> str:
    p99 = percentile(seconds, 99)
    return (
        f"{title:44} {statistics.median(seconds):10.2f} {p99:10.2f}  {'':8}  "
        f"≤ {TARGET_SECONDS:g}s  {_mark(p99 <= TARGET_SECONDS)}"
    )


def _wait_bar(title: str, seconds: list[float]) -> Wait:
    return Wait(title, statistics.median(seconds), percentile(seconds, 99))
