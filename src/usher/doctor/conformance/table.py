"""Prints the result for people: lines by endpoint, the counts, and what to do next."""

from itertools import groupby

from rich.console import Console
from rich.text import Text

from usher.contract.terminal import wrap
from usher.doctor.conformance.checking import CheckedExpectation, Verdict
from usher.doctor.conformance.run import Result

#: Verdict → its symbol and colour.
_MARKS: dict[Verdict, tuple[str, str]] = {
    "agrees": ("✓", "green"),
    "deviates": ("✗", "red"),
    "unknown": ("?", "yellow"),
}


def show(result: Result, console: Console) -> None:
    by_endpoint = groupby(result.outcomes, key=lambda outcome: outcome.expectation.endpoint)
    for endpoint, outcomes in by_endpoint:
        console.print(Text(endpoint, style="bold"))
        for outcome in outcomes:
            _show_outcome(outcome, console)
    console.print()
    console.print(
        f"{result.count('agrees')} agree, {result.count('deviates')} deviate, "
        f"{result.count('unknown')} unknown",
        style="bold",
        highlight=False,
    )
    text = wrap(f"{result.lms_url}: {result.release}.", indent=0)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    if result.left_over:
        text = wrap(f"Left over: {result.left_over}.", indent=0)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(wrap(_next_step(result), indent=len("Next: ")), highlight=False, soft_wrap=True)


def _show_outcome(outcome: CheckedExpectation, console: Console) -> None:
    mark, style = _MARKS[outcome.verdict]
    line = Text.assemble(
        "  ",
        (f"{mark} {outcome.verdict:<8} ", style),
        f"{outcome.expectation.id:<30} {wrap(outcome.expectation.says, indent=44)}",
    )
    console.print(line, soft_wrap=True)
    for reason in outcome.reasons:
        console.print(Text(f"{'':13}{wrap(reason, indent=13)}", style="dim"), soft_wrap=True)


def _next_step(result: Result) -> str:
    if not result.agrees:
        return (
            "Next: read what deviates. Don't upgrade this LMS in production before Usher supports "
            "these answers."
        )
    return "Next: nothing to do; this LMS answers as Usher expects."
