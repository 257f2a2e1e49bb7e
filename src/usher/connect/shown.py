"""The output of ``connect`` and ``disconnect``: plan, progress, checks, remaining steps."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from usher.connect.application.side import Addresses, Side
from usher.connect.manual import Manual
from usher.connect.plan import Check, Plan, Step
from usher.contract.terminal import printable, wrapped

_MARKS = {
    "ok": "[green]✓[/green] ok     ",
    "warning": "[yellow]![/yellow] warning",
    "failed": "[red]✗[/red] failed ",
    "skipped": "· skipped",
}


class View:
    """Prints text on standard output.

    With ``as_json``, prints one JSON object there and the text on standard error.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json, highlight=False, soft_wrap=True)
        self._data: dict[str, Any] = {"ok": False, "changed": [], "checks": []}
        self.failed = False

    def plan(self, plan: Plan, *, dry_run: bool) -> None:
        self._data["plan"] = plan.as_data()
        width = max(map(len, plan.facts), default=0)
        for name, value in plan.facts.items():
            self._say(f"  [bold]{escape(name):<{width}}[/bold]  {escape(value)}")
        for warning in plan.warnings:
            self._say(f"  [yellow]![/yellow] warning  {_text(warning, 13)}")
        due = [step for step in plan.steps if step.id in plan.due]
        if not due:
            self._say("\nNothing to change: everything is as planned already.")
            return
        self._say(f"\n{len(due)} of {len(plan.steps)} changes are due:")
        for number, step in enumerate(due, start=1):
            self._say(f"  {number:>2}. {_text(step.what, 6)}")
            for detail in step.details():
                self._say(f"        {_text(detail, 10)}")
            self._say(f"      in {_text(step.where, 9)}", style="dim")
            self._say(f"      because {_text(step.reason, 14)}", style="dim")
        if dry_run:
            self._say("\nNothing was changed (--dry-run).")

    def prepared(self, text: str, *, dry_run: bool) -> None:
        """Shows a change that was, or in a dry run would be, made before the plan."""
        self._data.setdefault("prepared", []).append(text)
        mark = "· planned " if dry_run else "[green]✓[/green] done    "
        self._say(f"  {mark} {_text(text, 13)}")

    def begins(self, step: Step, number: int, total: int) -> None:
        self._say(f"  [{number}/{total}] {step.id:<24} {_text(step.what + ' ...', 33)}")

    def ends(self, step: Step, changed: bool, said: str) -> None:
        if changed:
            self._data["changed"].append(step.id)
        mark = "[green]✓[/green] done   " if changed else "· already"
        self._say(f"        {mark} {step.id:<24} {_text(said, 43)}")

    def heading(self, text: str) -> None:
        self._say(f"\n{escape(text)}")

    def check(self, check: Check) -> None:
        self._data["checks"].append(vars(check))
        self.failed = self.failed or check.outcome == "failed"
        self._say(f"  {_MARKS[check.outcome]}  {check.id:<22} {_text(check.seen, 36)}")
        if check.fix:
            self._say(f"             fix: {escape(check.fix)}")

    @property
    def changed(self) -> list[str]:
        """Returns the ids of the steps that changed something."""
        return list(self._data["changed"])

    def end(self, sides: list[Side], addresses: Addresses, manual: Manual) -> None:
        self._data["manual"] = vars(manual)
        if self.failed:
            self._manual("Left to you:", manual.left)
            self._say("\nConnected as planned, but not everything works yet: see ✗ above.")
            return
        self._manual("Done for you, nothing to do by hand:", manual.done)
        self._manual("Not needed:", manual.unnecessary)
        self._manual("Left to you:", manual.left)
        self._say(f"\nConnected: {addresses.lms_url} signs in through " + _titles(sides) + ".")
        self._remains("sign in once in a private window, then look with: usher doctor --journey")

    def _manual(self, heading: str, lines: list[str]) -> None:
        if lines:
            self._say(f"\n{heading}")
        for line in lines:
            self._say(f"  - {_text(line, 4)}")

    def undone(self, names: list[str], *, last: bool) -> None:
        self._say(f"\nDisconnected: {', '.join(names)}.")
        if last:
            self._say("The LMS's own sign-in is restored; learners' accounts are unchanged.")

    def nothing(self, text: str) -> None:
        self._say(f"Nothing to do: {escape(text)}.")

    def stopped(self, message: str) -> None:
        """Shows why the run ended early."""
        self._data["error"] = message
        if self._as_json:
            self.flush(False)
        Console(stderr=True, highlight=False, soft_wrap=True).print(printable(escape(message)))

    def flush(self, ok: bool) -> None:
        if self._as_json:
            self._data["ok"] = ok and not self.failed
            sys.stdout.write(json.dumps(self._data) + "\n")

    def _remains(self, text: str) -> None:
        self._data.setdefault("remains", []).append(text)
        self._say(f"  next: {escape(text)}")

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(printable(text), style=style)


def _text(text: str, indent: int) -> str:
    return wrapped(escape(text), indent)


def _titles(sides: list[Side]) -> str:
    return " and ".join(side.checkout.title for side in sides)
