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
        #: Since when one of them can't be reached; used only while there are printed reasons.
        self._unreachable_since = 0.0

    def print_trouble(self, reason: str, wait: float) -> None:
        """Prints why the application or the LMS can't be reached, unless it was printed already: a
        later attempt may report the same reason in a longer sentence. wait: seconds until the next
        attempt; not printed, because later waits differ and print nothing."""
        reason = reason.strip().rstrip(".")
        was_printed = any(printed in reason for printed in self._printed_reasons)
        if was_printed:
            return
        if not self._printed_reasons:
            self._unreachable_since = time.monotonic()
        self._printed_reasons.append(reason)
        text = f"{reason}; trying again at least once a minute"
        self.console.print(f"✗ {wrap(escape(text), indent=2)}")

    def print_start(self, title: str, lms_url: str) -> None:
        """Prints that the watch begins, or that it begins again after an outage."""
        duration = ""
        if self._printed_reasons:
            duration = f" again after {time.monotonic() - self._unreachable_since:.0f} s"
            self._printed_reasons.clear()
        text = (
            f"{title}: watching{duration}, every second; the LMS is {lms_url}. Ctrl-C stops this."
        )
        self.console.print(wrap(escape(text), indent=0))

    def _print_results(self, summary: Summary) -> None:
        """Prints the results, without the failures of a kind all of whose rows fail: the line about
        its outage stands for them."""
        with self._lock:
            kinds = {kind for kind, _ in summary.numbers}
            for kind in sorted(kinds):
                self._print_change_of_state(kind, summary)
            failing_kinds = set(self._failing_since)

        def is_printed(kind: str, result: str) -> bool:
            return result != FAILED or kind not in failing_kinds

        numbers: Counter[tuple[str, str]] = Counter()
        for (kind, result), number in summary.numbers.items():
            if is_printed(kind, result):
                numbers[kind, result] = number
        reasons = [entry for entry in summary.reasons if is_printed(entry["kind"], entry["result"])]
        if numbers:
            super()._print_results(replace(summary, numbers=numbers, reasons=reasons))

    def _print_change_of_state(self, kind: str, summary: Summary) -> None:
        """Prints a line when all rows of this kind begin to fail, and a line when the LMS answers
        for a row of this kind again."""
        number_failed = summary.numbers[kind, FAILED]
        is_answered = any(summary.numbers[kind, result] for result in _ANSWERED)
        was_failing = kind in self._failing_since
        if is_answered and was_failing:
            seconds = time.monotonic() - self._failing_since.pop(kind)
            self.console.print(f"✓ {kind:<12} succeeds again after {seconds:.0f} s")
        elif number_failed and not is_answered and not was_failing:
            self._failing_since[kind] = time.monotonic()
            text = (
                f"{number_failed} failed{_cause_of_first_failure(kind, summary)}. "
                "Failed rows are retried; `usher doctor` finds the cause"
            )
            self.console.print(f"✗ {kind:<12} {wrap(escape(text), indent=15)}")


def _cause_of_first_failure(kind: str, summary: Summary) -> str:
    """``: alice: the LMS answered 500 [request 5f]``, or '' if no failure has a reason."""
    for entry in summary.reasons:
        if entry["kind"] == kind and entry["result"] == FAILED:
            request = f" [request {entry['request_id']}]" if entry["request_id"] else ""
            return f": {entry['what']}: {entry['reason'].rstrip('.')}{request}"
    return ""
