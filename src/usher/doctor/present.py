"""Prints a report for people: a line for each family of checks, what is wrong, and what to do next.

With ``verbose``, or if the operator named checks, prints a line for each check.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from usher.contract import exits
from usher.contract.terminal import WIDTH, as_typed, command_line, wrap
from usher.doctor import fixes
from usher.doctor.check import Status, all_checks, quantity
from usher.doctor.context import CONNECTED
from usher.doctor.runner import Line, Report

#: Status → its symbol and colour.
_MARKS = {
    Status.OK: ("✓", "green"),
    Status.NOTE: ("i", "cyan"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILED: ("✗", "bold red"),
    Status.SKIPPED: ("-", "dim"),
}
#: The words before the fix in the line that says what to do next.
_LABEL = re.compile(r"(Next: ([A-Z]+-\d+: )?)?")
#: The columns at which the texts of a check begin: its headline, and the texts that have a label.
_TEXT_COLUMN = 17
_LABELED_COLUMN = 24
_TEXT_INDENT = " " * _TEXT_COLUMN
#: A family has the first of these statuses that any of its checks has.
_WORST = (Status.FAILED, Status.WARNING, Status.NOTE, Status.OK, Status.SKIPPED)


def show(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Prints the checks, their counts, how far the setup is, and the next step."""
    is_short = not (verbose or report.named_ids)
    if is_short:
        _show_short(report, console)
    else:
        _show_each_check(report, console)
    console.print()
    counts = ", ".join(_count(len(report.lines_with_status(status)), status) for status in Status)
    _say(console, f"{counts}, in {report.seconds:.1f} seconds", "bold")
    if is_short:
        _say(console, f"Each check: {as_typed('usher doctor --verbose')}", "dim")
    if summary := _summary(report):
        _say(console, summary)
    if report.named_ids and report.exit_code == exits.DONE:
        _say(console, f"All checks: {as_typed('usher doctor')}")
    else:
        _show_next_step(report, console)


def _show_each_check(report: Report, console: Console) -> None:
    """Prints every check in full. If the operator named checks, says of each other one why it is
    shown."""
    for line in report.lines:
        _show_line(line, console)
        is_only_dependency = report.named_ids and line.id not in report.named_ids
        if is_only_dependency:
            skipped_ids = [other.id for other in report.lines if other.because == line.id]
            verb = "was" if len(skipped_ids) == 1 else "were"
            reason = f"because of it, {_join_with_and(skipped_ids)} {verb} not checked"
            _say(console, f"{_TEXT_INDENT}shown: {wrap(reason, _LABELED_COLUMN)}")


def _summary(report: Report) -> str:
    """How far the setup is, or that only some checks were made; '' if neither is known."""
    if report.named_ids:
        return "Only the checks named by --only, and their dependencies, were made."
    if report.stage == CONNECTED and report.silent_servers:
        verb = "does" if len(report.silent_servers) == 1 else "do"
        return f"Set up, but {_join_with_and(report.silent_servers)} {verb} not answer."
    if report.stage == CONNECTED and not report.healthy:
        return "Connected, but not everything works: see ✗ above."
    if report.stage == CONNECTED and report.unproven:
        text = "Connected according to the settings; whether sign-in works was not checked."
        return wrap(text, indent=0)
    return f"{report.stage[0].upper()}{report.stage[1:]}." if report.stage else ""


def _show_next_step(report: Report, console: Console) -> None:
    text = next_step(report)
    label = _LABEL.match(text)[0]  # type: ignore[index]  # it matches any text
    fix = text.removeprefix(label)
    _say(console, _format_fix(fix, indent=len("Next: "), label=label))


def _show_short(report: Report, console: Console) -> None:
    """Prints a line for each family and for a successful journey; then notes, failures and warnings
    in full, causes first; then the skipped checks with the reason."""
    # The line of the journey belongs to no family, so its id has no number.
    checks = [line for line in report.lines if "-" in line.id]
    _show_families(checks, console)
    for line in report.lines:
        if line not in checks and line.finding.status is Status.OK:
            _show_line(line, console)
    if shown_lines := [*report.lines_with_status(Status.NOTE), *report.root_causes]:
        console.print()
        for line in shown_lines:
            _show_line(line, console)
    if skipped := report.lines_with_status(Status.SKIPPED):
        console.print()
        _show_skipped(skipped, console)


def _show_families(checks: list[Line], console: Console) -> None:
    """Prints a line for each family: its worst status, its counts and its subject."""
    families = [(name, list(lines)) for name, lines in groupby(checks, _family)]
    counts = {name: _counts(lines) for name, lines in families}
    width = max(map(len, counts.values()), default=0)
    for name, lines in families:
        statuses = [line.finding.status for line in lines]
        worst = next(status for status in _WORST if status in statuses)
        mark, style = _MARKS[worst]
        title = wrap(lines[0].family, indent=_TEXT_COLUMN + width + len("  "))
        parts = [(f"{mark} {worst.value:<8}", style), (f"{name:<7}", "bold")]
        text = f"{counts[name]:<{width}}  {title}".rstrip()
        console.print(Text.assemble(*parts, text), soft_wrap=True)


def _show_skipped(skipped: list[Line], console: Console) -> None:
    """Prints a line for each reason, with the ids of the checks that were skipped for it."""
    ids_by_reason: dict[str, list[str]] = {}
    for line in skipped:
        ids_by_reason.setdefault(line.finding.seen, []).append(line.id)
    mark, style = _MARKS[Status.SKIPPED]
    for reason, ids in ids_by_reason.items():
        text = wrap(f"{', '.join(shorten_ids(ids))}: {reason}", indent=len("- skipped "))
        console.print(Text.assemble((f"{mark} skipped ", style), text), soft_wrap=True)


def _family(line: Line) -> str:
    return line.id.partition("-")[0]


def _counts(lines: Iterable[Line]) -> str:
    """``1 failed, 3 ok``, the worst status first."""
    statuses = [line.finding.status for line in lines]
    return ", ".join(
        _count(statuses.count(status), status) for status in _WORST if status in statuses
    )


def _count(count: int, status: Status) -> str:
    """``1 warning``, ``2 warnings``, ``3 ok``: the other statuses have no plural."""
    has_plural = status in (Status.NOTE, Status.WARNING)
    return quantity(count, status.value) if has_plural else f"{count} {status.value}"


def shorten_ids(ids: Sequence[str]) -> list[str]:
    """Shortens ``TUT-1``, ``TUT-2``, ``TUT-3``, ``TUT-7`` to ``TUT-1 to TUT-3``, ``TUT-7``."""
    groups: list[list[str]] = []
    for name in ids:
        family, _, number = name.partition("-")
        if groups and number.isdigit() and groups[-1][-1] == f"{family}-{int(number) - 1}":
            groups[-1].append(name)
        else:
            groups.append([name])
    return [
        f"{group[0]} to {group[-1]}" if len(group) > 2 else ", ".join(group) for group in groups
    ]


def _join_with_and(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _show_line(line: Line, console: Console) -> None:
    """Prints a check with its cause and fix, if it has these."""
    finding = line.finding
    mark, style = _MARKS[finding.status]
    headline = wrap(line.headline, _TEXT_COLUMN)
    seen = wrap(finding.seen, _TEXT_COLUMN) if line.headline != finding.seen else ""
    text = Text.assemble(
        (f"{mark} {finding.status.value:<8}", style), (f"{line.id:<6} ", "bold"), headline
    )
    if seen:
        one_line = f"{_TEXT_INDENT}{headline}  {seen}"
        fits = "\n" not in one_line and len(one_line) <= WIDTH
        text.append("  " if fits else f"\n{_TEXT_INDENT}")
        text.append(seen, "dim")
    console.print(text, soft_wrap=True)
    if line.headline != line.title:
        _say(console, f"{_TEXT_INDENT}check: {wrap(line.title, _LABELED_COLUMN)}", "dim")
    if finding.status is Status.NOTE:
        _say(console, f"{_TEXT_INDENT}why:   {wrap(finding.cause, _LABELED_COLUMN)}")
    if finding.is_trouble:
        _say(console, f"{_TEXT_INDENT}cause: {wrap(finding.cause, _LABELED_COLUMN)}")
        label = f"{_TEXT_INDENT}fix:   "
        _say(console, _format_fix(finding.fix, indent=_LABELED_COLUMN, label=label))
        if line.page.startswith("http"):
            _say(console, f"{_TEXT_INDENT}page:  {line.page}")


def _format_fix(fix: str, *, indent: int, label: str) -> str:
    """``label`` and a fix. Sentences are wrapped; each command is on a line of its own, so that it
    can be copied. All lines after the first are indented."""
    lines = []
    start = label
    for part, is_command in fixes.split_into_commands(fix):
        if is_command:
            lines += _command_lines(as_typed(part), start, indent)
        elif len(start) <= indent:
            lines.append(start + wrap(part, indent))
        else:
            lines.append(wrap(start + part, indent))
        start = " " * indent
    return "\n".join(lines)


def _command_lines(command: str, start: str, indent: int) -> list[str]:
    """The command after ``start``, or in a line of its own if both do not fit in one line."""
    if len(start + command) <= WIDTH:
        return [start + command]
    label_line = [start.rstrip()] if start.strip() else []
    return [*label_line, command_line(command, indent)]


def next_step(report: Report) -> str:
    """Returns a sentence that begins with ``Next:``. It may contain commands."""
    if root_causes := report.root_causes:
        return f"Next: {root_causes[0].id}: {root_causes[0].finding.fix}"
    if report.unproven and not report.named_ids:
        return f"Next: {_unchecked_text(report.unproven, 'essential check')}"
    if report.exit_code:  # nothing failed, but a check that the operator named could not be made
        missing = next(line for line in report.unknown if line.id in report.named_ids)
        return f"Next: {missing.id} could not be checked: {missing.finding.seen}."
    if report.unknown:
        return f"Next: nothing to do. {_unchecked_text(report.unknown, 'check')}"
    return "Next: nothing to do."


def _unchecked_text(lines: list[Line], noun: str) -> str:
    """A sentence with the number of these checks, their ids, and the reason if most have the same
    one. noun: in the singular."""
    reasons = [line.finding.seen for line in lines]
    commonest_reason = max(reasons, key=reasons.count)
    ids = ", ".join(shorten_ids([line.id for line in lines]))
    text = f"{quantity(len(lines), noun)} could not be made ({ids})"
    is_common = 2 * reasons.count(commonest_reason) > len(lines)
    return f"{text}: {commonest_reason}" if is_common else f"{text}; their reasons are listed"


def list_as_dict() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": check_class.title(),
            "depends_on": list(check_class.depends_on),
            "page": check_class.page(),
        }
        for name, check_class in all_checks().items()
    ]


def show_list(console: Console) -> None:
    for name, check_class in all_checks().items():
        line = Text.assemble((f"{name:<6} ", "bold"), wrap(check_class.title(), indent=7))
        console.print(line, soft_wrap=True)
        if check_class.depends_on:
            names = wrap(", ".join(shorten_ids(check_class.depends_on)), indent=13)
            _say(console, f"{'':7}after {names}", "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
