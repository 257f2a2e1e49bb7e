"""Prints a report for people: a line for each check, and what to do next."""

from typing import Any

from rich.console import Console
from rich.text import Text

from usher.contract.terminal import WIDTH, wrapped
from usher.doctor.check import Status, all_checks
from usher.doctor.context import CONNECTED
from usher.doctor.runner import Line, Report

_MARKS = {
    Status.OK: ("✓", "green"),
    Status.NOTE: ("i", "cyan"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILED: ("✗", "bold red"),
    Status.SKIPPED: ("-", "dim"),
}


def show(report: Report, console: Console) -> None:
    for line in report.lines:
        _show_line(line, console)
    console.print()
    counts = ", ".join(f"{len(report.of_status(status))} {status.value}" for status in Status)
    _say(console, f"{counts}, in {report.seconds:.1f} seconds", "bold")
    if report.stage == CONNECTED and report.unproven:
        _say(console, "The settings say that it is connected; that was not seen to work.")
    elif report.stage:
        _say(console, f"{report.stage[0].upper()}{report.stage[1:]}.")
    _say(console, next_step(report))


def _show_line(line: Line, console: Console) -> None:
    finding = line.finding
    mark, style = _MARKS[finding.status]
    seen = wrapped(finding.seen, 17)
    fits = "\n" not in seen and 17 + len(line.title) + 2 + len(seen) <= WIDTH
    text = Text.assemble(
        (f"{mark} {finding.status.value:<8}", style),
        (f"{line.id:<6} ", "bold"),
        wrapped(line.title, 17),
        ("  " if fits else "\n" + " " * 17) if seen else "",
        (seen, "dim"),
    )
    console.print(text, soft_wrap=True)
    if finding.status is Status.NOTE:
        _say(console, f"{'':17}why:   {wrapped(finding.cause, 24)}")
    if finding.is_trouble:
        _say(console, f"{'':17}cause: {wrapped(finding.cause, 24)}")
        _say(console, f"{'':17}fix:   {finding.fix}")
        if line.page:
            _say(console, f"{'':17}page:  {line.page}")


def next_step(report: Report) -> str:
    wrong = report.of_status(Status.FAILED) or report.of_status(Status.WARNING)
    if wrong:
        return f"Next: {wrong[0].id}: {wrong[0].finding.fix}"
    if report.unproven and not report.asked:
        return f"Next: {_not_checked(report.unproven, 'essential checks')}"
    if report.exit_code:
        missing = next(line for line in report.unknown if line.id in report.asked)
        return f"Next: {missing.id} could not be checked: {missing.finding.seen}."
    if report.unknown:
        return f"Next: nothing to do. {_not_checked(report.unknown, 'checks')}"
    return "Next: nothing to do."


def _not_checked(lines: list[Line], what: str) -> str:
    """A sentence with the number of these checks, their ids, and the most frequent reason: one
    failing command, such as the application's manage.py, may be the reason for many."""
    seen = [line.finding.seen for line in lines]
    often = max(seen, key=seen.count)
    names = ", ".join(line.id for line in lines)
    number = f"{len(lines)} {what}" if len(lines) > 1 else f"1 {what.removesuffix('s')}"
    said = f"{number} could not be made ({names})"
    return f"{said}: {often}" if len(lines) == 1 or seen.count(often) > 1 else f"{said}; see there"


def list_as_dict() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": kind.title(),
            "depends_on": list(kind.depends_on),
            "page": kind.page(),
        }
        for name, kind in all_checks().items()
    ]


def show_list(console: Console) -> None:
    for name, kind in all_checks().items():
        after = f"  after {', '.join(kind.depends_on)}" if kind.depends_on else ""
        line = Text.assemble((f"{name:<6} ", "bold"), kind.title(), (after, "dim"))
        console.print(line, soft_wrap=True)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
