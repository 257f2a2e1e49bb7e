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

#: The most differences, and refusals, of one kind that are shown. ``usher drift --all`` shows all
#: differences; ``--json`` lists all of both.
MAX_SHOWN = 10
#: Seconds between two lines about progress if the output is not a terminal.
_SECONDS_BETWEEN_PROGRESS_LINES = 30.0
#: The sections of drift's output. WAITING: differences that ``usher reconcile`` repairs.
_GIVEN_UP, _WAITING, _DIFFERENT = "given_up", "waiting", "different"


class ReconcileOutput:
    """Prints lines for people; with ``as_json`` a JSON object for each event."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        #: Part of the JSON that ``print_error`` prints.
        self._summary_before_error = Summary()
        # With ``as_json``, lines for people go to standard error.
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)

    def print_due(self, title: str, numbers: dict[str, int]) -> None:
        if numbers:
            text = ", ".join(count_text(number, kind) for kind, number in numbers.items())
            self.console.print(wrap(f"{title}: {text} due", indent=0))

    def print_dry_run(self, numbers: dict[str, int]) -> None:
        """With ``as_json``, prints how many rows are due. ``print_due`` prints it for people."""
        if self._as_json:
            click.echo(json.dumps({"due": numbers}))

    @contextmanager
    def progress(self, due: dict[str, int]) -> Iterator[Callable[[Summary], None]]:
        """Yields a function that shows the progress. due: kind → number of rows to process, if
        known."""
        if not self.console.is_terminal:
            yield self._progress_lines(due)
            return
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            # Kind → the id of its bar.
            tasks = {}
            for kind, total in due.items():
                if total:
                    text = progress_text(done=0, total=total)
                    tasks[kind] = bar.add_task(kind, total=total, text=text)

            def show_progress(summary: Summary) -> None:
                for kind, numbers in summary.as_data()["kinds"].items():
                    done = sum(numbers.values())
                    if kind not in tasks:
                        tasks[kind] = bar.add_task(kind, total=None, text="")
                    total = due.get(kind, 0)
                    text = progress_text(
                        done, total, refused=numbers[REFUSED], failed=numbers[FAILED]
                    )
                    bar.update(tasks[kind], completed=done, text=text)

            yield show_progress

    def _progress_lines(self, due: dict[str, int]) -> Callable[[Summary], None]:
        """Returns a function that prints the progress, at most every half minute, for logs."""
        last_printed = time.monotonic()

        def show_progress(summary: Summary) -> None:
            nonlocal last_printed
            if time.monotonic() - last_printed < _SECONDS_BETWEEN_PROGRESS_LINES:
                return
            last_printed = time.monotonic()
            for kind, numbers in summary.as_data()["kinds"].items():
                done, total = sum(numbers.values()), due.get(kind, 0)
                text = progress_text(done, total, refused=numbers[REFUSED], failed=numbers[FAILED])
                self.console.print(f"  {kind:<12} {text}")

        return show_progress

    def print_summary(self, summary: Summary) -> None:
        if self._as_json:
            click.echo(json.dumps(summary.as_data()))
        self._print_results(summary)

    def print_results_before_error(self, summary: Summary) -> None:
        """Prints the results up to the error that ended the command; ``print_error`` then prints
        the error."""
        self._summary_before_error = summary
        if summary.numbers:
            self._print_results(summary)

    def print_interrupted(self, summary: Summary) -> None:
        if self._as_json:
            click.echo(json.dumps(summary.as_data() | {"ok": False, "error": "interrupted"}))
        if summary.numbers:
            self._print_results(summary)
        self.print_stopped()

    def print_error(self, reason: str) -> None:
        """With ``--json``, prints the error that ended the command, with the results before it.
        Otherwise prints nothing: ``command`` prints the error for people."""
        if self._as_json:
            click.echo(
                json.dumps(self._summary_before_error.as_data() | {"ok": False, "error": reason})
            )

    def print_state(self, state: WatchState) -> None:
        """Prints the results since the start."""
        counts = state.as_summary()
        self.console.print("since the start:" + ("" if counts.numbers else " nothing was done"))
        if counts.numbers:
            self._print_numbers(counts)

    def _print_results(self, summary: Summary) -> None:
        """Prints the rows that are not done, at most ``MAX_SHOWN`` of each result and kind, and the
        counts."""
        counts: Counter[tuple[str, str]] = Counter()
        for entry in summary.reasons:
            result, kind = entry["result"], entry["kind"]
            counts[result, kind] += 1
            if counts[result, kind] <= MAX_SHOWN:
                mark = "·" if result in (SKIPPED, INVALID) else "✗"
                request = f" [request {entry['request_id']}]" if entry["request_id"] else ""
                # Indented by the width of mark, result and kind in the line below.
                text = wrap(escape(f"{entry['what']}: {entry['reason']}{request}"), indent=26)
                self.console.print(f"  {mark} {result:<8} {kind:<12} {text}")
        for (result, kind), count in counts.items():
            if count > MAX_SHOWN:
                more = f"and {count - MAX_SHOWN} more {result}; --json lists all"
                self.console.print(f"    {'':<8} {kind:<12} {more}")
        self._print_numbers(summary)

    def _print_numbers(self, summary: Summary) -> None:
        """Prints a line for each kind: how many rows have which result, how many wait for an
        account, and how many are new."""
        for kind, number_of in summary.as_data()["kinds"].items():
            text = ", ".join(f"{number} {result}" for result, number in number_of.items() if number)
            mark = "✗" if number_of[REFUSED] or number_of[FAILED] else "✓"
            self.console.print(f"{mark} {kind:<12} {text}")
        for kind, number in summary.waiting.items():
            accounts = "its learner's account" if number == 1 else "their learners' accounts"
            self.console.print(f"· {kind:<12} {number} waiting for {accounts}")
        for kind, number in summary.new.items():
            pronoun = "it" if number == 1 else "them"
            text = f"{number} new: the application handles {pronoun} itself for some minutes"
            self.console.print(f"· {kind:<12} {text}")
        if not summary.numbers and not summary.waiting and not summary.new:
            self.console.print("✓ nothing to do")

    def print_link(self, address: str) -> None:
        """Prints the link to standard error only, because it gives access to the pages."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"console  {address}\n"
            "         The link works once. You stay signed in until you press Ctrl-C."
        )

    def print_line(self, text: str) -> None:
        self.console.print(wrap(escape(text), indent=2))

    def print_stopped(self) -> None:
        self.console.print("stopped; the next run continues from here")


def count_text(number: int, kind: str) -> str:
    """``1 account``, ``2 accounts``; ``3 missing``, ``3 to adopt``."""
    if kind == MISSING:
        return f"{number} {kind}"
    if kind == ADOPT:
        return f"{number} to {kind}"
    return f"{number} {kind}" + ("" if number == 1 else "s")


def progress_text(done: int, total: int, *, refused: int = 0, failed: int = 0) -> str:
    """``3 of 10, 1 refused``. total: 0 if the number of rows is not known."""
    # More rows than counted before may have become due.
    text = f"{done} of {max(total, done)}" if total else f"{done}"
    if refused:
        text += f", {refused} refused"
    if failed:
        text += f", {failed} failed"
    return text


class DriftOutput:
    """Prints lines for people; with ``as_json`` one JSON object at the end."""

    def __init__(self, as_json: bool, show_all: bool) -> None:
        self._as_json = as_json
        self._show_all = show_all
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        #: (section, kind) → number of entries, also those not shown, until
        #: ``_print_counts_of_omitted_lines`` has printed it.
        self._counts: Counter[tuple[str, str]] = Counter()
        # The three keys of the JSON object.
        self._application = ""
        self._given_up: list[dict[str, Any]] = []
        self._differences: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        """The number of rows given up and of differences."""
        return len(self._given_up) + len(self._differences)

    def _as_data(self) -> dict[str, Any]:
        return {
            "application": self._application,
            "given_up": self._given_up,
            "differences": self._differences,
        }

    def set_application(self, title: str) -> None:
        self._application = title

    def print_given_up(self, kind: str, what: str, reason: str) -> None:
        is_first = not self._given_up
        self._given_up.append({"kind": kind, "what": what, "reason": reason})
        if is_first:
            self._print(f"Given up by {self._application} itself:")
        self._print_entry(_GIVEN_UP, kind, what, reason)

    def print_difference(self, kind: str, what: str, difference: str, waiting: bool) -> None:
        """waiting: whether ``usher reconcile`` repairs it."""
        is_first = not self._differences
        self._differences.append(
            {"kind": kind, "what": what, "difference": difference, "waiting": waiting}
        )
        if is_first:
            self._print_counts_of_omitted_lines(_GIVEN_UP)
            if self._given_up:
                self._print("")
            self._print("Different in the LMS:")
        self._print_entry(_WAITING if waiting else _DIFFERENT, kind, what, difference)

    def print_end(self, text_if_none: str) -> None:
        """Prints the counts. text_if_none: printed if nothing was found."""
        if self._as_json:
            click.echo(json.dumps(self._as_data()))
            return
        if not self.count:
            self._print(f"✓ {self._application}: {text_if_none}")
            return
        self._print_counts_of_omitted_lines(_GIVEN_UP, _WAITING, _DIFFERENT)
        differences = count_text(len(self._differences), "difference")
        counts = f"{len(self._given_up)} given up, {differences}"
        waiting = sum(1 for entry in self._differences if entry["waiting"])
        next_step = f"; `usher reconcile` repairs the {waiting} marked ·" if waiting else ""
        self._print(wrap(f"\n{counts}{next_step}", indent=0))

    def print_error(self, reason: str) -> None:
        """With ``--json``, prints the error that ended the command, and what was found before.
        Otherwise prints nothing: ``command`` prints the error for people."""
        if self._as_json:
            click.echo(json.dumps(self._as_data() | {"ok": False, "error": reason}))

    def _print_entry(self, section: str, kind: str, what: str, text: str) -> None:
        """Prints the entry, unless as many of its section and kind were shown as may be."""
        mark = "[yellow]·[/yellow]" if section == _WAITING else "[red]✗[/red]"
        self._counts[section, kind] += 1
        if self._show_all or self._counts[section, kind] <= MAX_SHOWN:
            # Further lines are indented by the width of mark and kind.
            self._print(f"  {mark} {kind:<11} {wrap(escape(f'{what}: {text}'), indent=16)}")

    def _print_counts_of_omitted_lines(self, *sections: str) -> None:
        """Prints for each kind how many entries were not shown, and prints it only once."""
        if self._show_all:
            return
        for (section, kind), number in list(self._counts.items()):
            if section in sections and number > MAX_SHOWN:
                mark = "·" if section == _WAITING else "✗"
                self._print(f"  {mark} {kind:<11} and {number - MAX_SHOWN} more; --all shows them")
                del self._counts[section, kind]

    def _print(self, text: str) -> None:
        self.console.print(text)
