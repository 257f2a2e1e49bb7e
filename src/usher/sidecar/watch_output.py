"""The lines of ``usher reconcile --watch``: one when an outage begins, and one when it ends."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from threading import Lock

from rich.markup import escape

from usher.contract.terminal import wrap
from usher.sidecar.output import ReconcileOutput
from usher.sidecar.summary import DONE, FAILED, INVALID, REFUSED, Summary

#: Results that show that the LMS answers.
_ANSWERED = (DONE, REFUSED, INVALID)


class WatchOutput(ReconcileOutput):
    """The output of ``--watch``: lines for people report a lasting failure once. With ``as_json``
    each pass is one object, even if it is equal to the object of the pass before. Several threads
    may report passes."""

    def __init__(self, as_json: bool) -> None:
        super().__init__(as_json)
        self._lock = Lock()
        #: Kind → when all its rows began to fail.
        self._failing_since: dict[str, float] = {}
        #: The printed reasons why the application or the LMS can't be reached; none while both can.
        self._printed_reasons: list[str] = []
        #: Since when they can't be reached.
        self._unreachable_since = 0.0

    def print_trouble(self, reason: str, wait: float) -> None:
        """Prints why the application or the LMS can't be reached, unless it was printed already: a
        later attempt may report the same reason in a longer sentence. wait: seconds until the next
        attempt; not printed, because later waits differ and print nothing."""
        reason = reason.strip().rstrip(".")
        if any(printed in reason for printed in self._printed_reasons):
            return
        if not self._printed_reasons:
            self._unreachable_since = time.monotonic()
        self._printed_reasons.append(reason)
        text = f"{reason}; trying again at least once a minute"
        self.console.print(f"✗ {wrap(escape(text), indent=2)}")

    def print_start(self, title: str, lms_url: str) -> None:
        duration = ""
        if self._printed_reasons:
            duration = f" again after {time.monotonic() - self._unreachable_since:.0f} s"
            self._printed_reasons.clear()
        text = (
            f"{title}: watching{duration}, every second; the LMS is {lms_url}. Ctrl-C stops this."
        )
        self.console.print(wrap(escape(text), indent=0))

    def _print_results(self, summary: Summary) -> None:
        """Prints the results, without the failures of a kind whose outage was printed before."""
        with self._lock:
            for kind in sorted({kind for kind, _ in summary.numbers}):
                self._print_change_of_state(kind, summary)
            repeated = {kind for kind in self._failing_since if summary.numbers[kind, FAILED]}

        def is_new(kind: str, result: str) -> bool:
            return not (result == FAILED and kind in repeated)

        numbers = {key: number for key, number in summary.numbers.items() if is_new(*key)}
        reasons = [entry for entry in summary.reasons if is_new(entry["kind"], entry["result"])]
        if numbers:
            super()._print_results(replace(summary, numbers=Counter(numbers), reasons=reasons))

    def _print_change_of_state(self, kind: str, summary: Summary) -> None:
        """Prints a line when all rows of this kind begin to fail, and a line when a row of this
        kind succeeds again."""
        failed = summary.numbers[kind, FAILED]
        if any(summary.numbers[kind, result] for result in _ANSWERED):
            if (since := self._failing_since.pop(kind, None)) is not None:
                seconds = time.monotonic() - since
                self.console.print(f"✓ {kind:<12} succeeds again after {seconds:.0f} s")
        elif failed and kind not in self._failing_since:
            self._failing_since[kind] = time.monotonic()
            failures = [
                entry
                for entry in summary.reasons
                if entry["kind"] == kind and entry["result"] == FAILED
            ]
            cause = ""
            if failures:
                first = failures[0]
                request = f" [request {first['request_id']}]" if first["request_id"] else ""
                cause = f": {first['what']}: {first['reason'].rstrip('.')}{request}"
            text = escape(
                f"{failed} failed{cause}. Failed rows are retried; `usher doctor` finds the cause"
            )
            self.console.print(f"✗ {kind:<12} {wrap(text, indent=15)}")
