"""The output of ``usher drift`` and ``usher reconcile``: lines for people, or JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from usher.contract.terminal import wrap
from usher.sidecar.comparing import ADOPT, MISSING
from usher.sidecar.summary import FAILED, INVALID, REFUSED, SKIPPED, Summary
from usher.sidecar.watch_state import WatchState

#: The most differences, and refusals, of one kind that are shown without ``--all``.
MAX_SHOWN = 10
#: Seconds between two lines about progress if the output is not a terminal.
_SECONDS_BETWEEN_LINES = 30.0


class ReconcileOutput:
    """Prints lines for people; with ``as_json`` a JSON object for each event."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._before = Summary()
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)

    def print_due(self, title: str, numbers: dict[str, int]) -> None:
        if numbers:
            text = ", ".join(count_text(number, kind) for kind, number in numbers.items())
            self.console.print(wrap(f"{title}: {text} due", 0))

    def print_dry_run(self, numbers: dict[str, int]) -> None:
        if self._as_json:
            click.echo(json.dumps({"due": numbers}))

    @contextmanager
    def progress(self, due: dict[str, int]) -> Iterator[Callable[[Summary], None]]:
        """Yields a function that shows the progress. due: kind → number of rows to process, if
        known."""
        if not self.console.is_terminal:
            yield self._lines(due)
            return
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            tasks = {
                kind: bar.add_task(kind, total=number or None, text=progress_text(0, number))
                for kind, number in due.items()
                if number
            }

            def show_progress(summary: Summary) -> None:
                for kind, numbers in summary.as_data()["kinds"].items():
                    done = sum(numbers.values())
                    if kind not in tasks:
                        tasks[kind] = bar.add_task(kind, total=None, text="")
                    text = progress_text(done, due.get(kind, 0), numbers[REFUSED], numbers[FAILED])
                    bar.update(tasks[kind], completed=done, text=text)

            yield show_progress

    def _lines(self, due: dict[str, int]) -> Callable[[Summary], None]:
        """Prints a line from time to time, for logs."""
        last = time.monotonic()

        def show_progress(summary: Summary) -> None:
            nonlocal last
            if time.monotonic() - last < _SECONDS_BETWEEN_LINES:
                return
            last = time.monotonic()
            for kind, numbers in summary.as_data()["kinds"].items():
                text = progress_text(
                    sum(numbers.values()), due.get(kind, 0), numbers[REFUSED], numbers[FAILED]
                )
                self.console.print(f"  {kind:<12} {text}")

        return show_progress

    def print_summary(self, summary: Summary) -> None:
        if self._as_json:
            click.echo(json.dumps(summary.as_data()))
        self._results(summary)

    def print_before_error(self, summary: Summary) -> None:
        """Prints the results before the error; ``print_error`` then prints the error."""
        self._before = summary
        if summary.numbers:
            self._results(summary)

    def print_interrupted(self, summary: Summary) -> None:
        if self._as_json:
            click.echo(json.dumps(summary.as_data() | {"ok": False, "error": "interrupted"}))
        if summary.numbers:
            self._results(summary)
        self.print_stopped()

    def print_error(self, reason: str) -> None:
        """Prints the error that ended the command."""
        if self._as_json:
            click.echo(json.dumps(self._before.as_data() | {"ok": False, "error": reason}))

    def print_state(self, since_start: WatchState) -> None:
        """Prints the results since the start."""
        counts = since_start.as_summary()
        self.console.print("since the start:" + ("" if counts.numbers else " nothing was done"))
        if counts.numbers:
            self._numbers(counts)

    def _results(self, summary: Summary) -> None:
        numbers: Counter[tuple[str, str]] = Counter()
        for entry in summary.reasons:
            which = entry["result"], entry["kind"]
            numbers[which] += 1
            if numbers[which] <= MAX_SHOWN:
                mark = "·" if entry["result"] in (SKIPPED, INVALID) else "✗"
                request = f" [request {entry['request_id']}]" if entry["request_id"] else ""
                text = wrap(escape(f"{entry['what']}: {entry['reason']}{request}"), 26)
                self.console.print(f"  {mark} {entry['result']:<8} {entry['kind']:<12} {text}")
        for (result, kind), number in numbers.items():
            if number > MAX_SHOWN:
                more = f"and {number - MAX_SHOWN} more {result}; --json lists all"
                self.console.print(f"    {'':<8} {kind:<12} {more}")
        self._numbers(summary)

    def _numbers(self, summary: Summary) -> None:
        for kind, numbers in summary.as_data()["kinds"].items():
            text = ", ".join(f"{number} {result}" for result, number in numbers.items() if number)
            mark = "✗" if numbers[REFUSED] or numbers[FAILED] else "✓"
            self.console.print(f"{mark} {kind:<12} {text}")
        for kind, number in summary.waiting.items():
            whose = "its learner's account" if number == 1 else "their learners' accounts"
            self.console.print(f"· {kind:<12} {number} waiting for {whose}")
        for kind, number in summary.new.items():
            them = "it" if number == 1 else "them"
            text = f"{number} new: the application handles {them} itself for some minutes"
            self.console.print(f"· {kind:<12} {text}")
        if not summary.numbers and not summary.waiting and not summary.new:
            self.console.print("✓ nothing to do")

    def print_link(self, address: str) -> None:
        """Prints the link to standard error only, because it gives access to the pages."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"console  {address}\n"
            "         The link works once; the browser then stays signed in until this ends."
        )

    def print_line(self, what: str) -> None:
        self.console.print(wrap(escape(what), 2))

    def print_stopped(self) -> None:
        self.console.print("stopped; the next run continues from here")


def count_text(number: int, kind: str) -> str:
    """``1 account``, ``2 accounts``."""
    if kind in (MISSING, ADOPT):
        return f"{number} to {kind}" if kind == ADOPT else f"{number} {kind}"
    return f"{number} {kind}" + ("" if number == 1 else "s")


def progress_text(done: int, total: int, refused: int = 0, failed: int = 0) -> str:
    text = f"{done} of {max(total, done)}" if total else f"{done}"
    text += f", {refused} refused" if refused else ""
    return text + (f", {failed} failed" if failed else "")


class DriftOutput:
    def __init__(self, as_json: bool, show_all: bool) -> None:
        self._as_json, self._show_all = as_json, show_all
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        self._found: Counter[tuple[str, str]] = Counter()
        self._data: dict[str, Any] = {"application": "", "given_up": [], "differences": []}

    @property
    def count(self) -> int:
        return len(self._data["given_up"]) + len(self._data["differences"])

    def set_application(self, title: str) -> None:
        self._data["application"] = title

    def print_given_up(self, kind: str, what: str, reason: str) -> None:
        if not self._data["given_up"]:
            self._print(f"Given up by {self._data['application']} itself:")
        self._data["given_up"].append({"kind": kind, "what": what, "reason": reason})
        self._line("given_up", "[red]✗[/red]", kind, what, reason)

    def print_difference(self, kind: str, what: str, difference: str, waiting: bool) -> None:
        if not self._data["differences"]:
            self._print_hidden_counts("given_up")
            self._print(("\n" if self._data["given_up"] else "") + "Different in the LMS:")
        entry = {"kind": kind, "what": what, "difference": difference, "waiting": waiting}
        self._data["differences"].append(entry)
        section = "waiting" if waiting else "different"
        mark = "[yellow]·[/yellow]" if waiting else "[red]✗[/red]"
        self._line(section, mark, kind, what, difference)

    def print_end(self, agreed: str) -> None:
        if self._as_json:
            click.echo(json.dumps(self._data))
        differences = self._data["differences"]
        waiting = sum(entry["waiting"] for entry in differences)
        if not self.count:
            self._print(f"✓ {self._data['application']}: {agreed}")
            return
        self._print_hidden_counts("given_up", "waiting", "different")
        given_up = len(self._data["given_up"])
        next_step = f"; usher reconcile repairs the {waiting} marked ·" if waiting else ""
        counts = f"{given_up} given up, {count_text(len(differences), 'difference')}"
        self._print(wrap(f"\n{counts}{next_step}", 0))

    def print_error(self, reason: str) -> None:
        """Prints the error that ended the command, and what was found before."""
        if self._as_json:
            click.echo(json.dumps(self._data | {"ok": False, "error": reason}))

    def _line(self, section: str, mark: str, kind: str, what: str, text: str) -> None:
        self._found[section, kind] += 1
        if self._show_all or self._found[section, kind] <= MAX_SHOWN:
            self._print(f"  {mark} {kind:<11} {wrap(escape(f'{what}: {text}'), 16)}")

    def _print_hidden_counts(self, *sections: str) -> None:
        """Prints for each kind how many lines were not shown."""
        for (section, kind), number in list(self._found.items()):
            if section in sections and number > MAX_SHOWN and not self._show_all:
                mark = "·" if section == "waiting" else "✗"
                self._print(f"  {mark} {kind:<11} and {number - MAX_SHOWN} more; --all shows them")
                del self._found[section, kind]

    def _print(self, text: str) -> None:
        self.console.print(text)
