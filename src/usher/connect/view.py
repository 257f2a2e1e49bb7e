"""The output of ``connect`` and ``disconnect``: plan, progress, checks, remaining steps."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.development_server import StartedServer
from usher.connect.manual import Manual
from usher.connect.plan import Check, Plan, Step
from usher.contract.terminal import printable, wrap

#: Outcome of a check → the beginning of its line.
_MARKS = {
    "ok": "[green]✓[/green] ok     ",
    "warning": "[yellow]![/yellow] warning",
    "failed": "[red]✗[/red] failed ",
    "skipped": "· skipped",
}


class View:
    """Prints text on standard output.

    With ``as_json``, prints one JSON object on standard output and the text on standard error.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json, highlight=False, soft_wrap=True)
        #: The JSON object that ``flush`` prints.
        self._data: dict[str, Any] = {"ok": False, "changed": [], "checks": []}
        #: Whether a check has failed.
        self.failed = False
        #: Whether something was changed before the plan; whether a step has begun.
        self._has_prepared = False
        self._has_begun = False

    def print_plan(self, plan: Plan, *, dry_run: bool) -> None:
        # For ``as_json``: the whole plan. Printed are only the steps that are due.
        self._data["plan"] = plan.as_data()
        width = max(map(len, plan.facts), default=0)
        for name, value in plan.facts.items():
            self._print(
                f"  [bold]{escape(name):<{width}}[/bold]  {_wrap_text(value, indent=width + 4)}"
            )
        for warning in plan.warnings:
            self._print(f"  [yellow]![/yellow] warning  {_wrap_text(warning, indent=13)}")
        due = [step for step in plan.steps if step.id in plan.due]
        if not due:
            self._print("\nNothing to change: everything is as planned already.")
            return
        verb = "is" if len(due) == 1 else "are"
        self._print(f"\n{len(due)} of {len(plan.steps)} changes {verb} due:")
        for number, step in enumerate(due, start=1):
            self._print(f"  {number:>2}. {_wrap_text(step.what, indent=6)}")
            for detail in step.details():
                self._print(f"        {_wrap_text(detail, indent=10)}")
            self._print(f"      in {_wrap_text(step.where, indent=9)}", style="dim")
            self._print(f"      because {_wrap_text(step.reason, indent=14)}", style="dim")
        if dry_run:
            self._print("\nNothing was changed (--dry-run).")

    def print_preparation(self, text: str, *, dry_run: bool) -> None:
        """Shows a change that was made before the plan; in a dry run, one that would be made."""
        self._data.setdefault("prepared", []).append(text)
        self._has_prepared = self._has_prepared or not dry_run
        mark = "· planned " if dry_run else "[green]✓[/green] done    "
        self._print(f"  {mark} {_wrap_text(text, indent=13)}")

    def start_step(self, step: Step, number: int, total: int) -> None:
        self._has_begun = True
        self._print(
            f"  [{number}/{total}] {step.id:<24} {_wrap_text(step.what + ' ...', indent=33)}"
        )

    def finish_step(self, step: Step, changed: bool, result: str) -> None:
        if changed:
            self._data["changed"].append(step.id)
        mark = "[green]✓[/green] done   " if changed else "· already"
        self._print(f"        {mark} {step.id:<24} {_wrap_text(result, indent=43)}")

    def print_server(self, target: TargetApplication, server: StartedServer) -> None:
        """Shows that connect starts the application for the checks."""
        self._data.setdefault("started", []).append(server.command)
        title = escape(target.checkout.title)
        log = escape(str(server.log))
        self._print(wrap(f"\nStarting {title} for the checks; its log: {log}", indent=0))
        if server.open_to_all:
            self._print("  It listens on every interface, as the LMS's containers must reach it.")

    def print_heading(self, text: str) -> None:
        self._print(f"\n{escape(text)}")

    def print_check(self, check: Check) -> None:
        self._data["checks"].append(vars(check))
        self.failed = self.failed or check.outcome == "failed"
        self._print(
            f"  {_MARKS[check.outcome]}  {check.id:<22} {_wrap_text(check.seen, indent=36)}"
        )
        if check.fix:
            self._print(f"             fix: {_wrap_text(check.fix, indent=18)}")

    @property
    def has_preparations(self) -> bool:
        """Returns whether something was changed before the plan."""
        return self._has_prepared

    @property
    def has_begun(self) -> bool:
        """Returns whether something was changed, or a step that may have changed something has
        begun."""
        return self._has_prepared or self._has_begun

    @property
    def changed(self) -> list[str]:
        """Returns the ids of the steps that changed something."""
        return list(self._data["changed"])

    def print_connected(
        self, targets: list[TargetApplication], addresses: Addresses, manual: Manual
    ) -> None:
        self._data["manual"] = vars(manual)
        if self.failed:
            self._print_list("Left to you:", manual.left)
            self._print("\nConnected as planned, but some checks failed: see ✗ above.")
            return
        self._print_list("Done by this command:", manual.done)
        self._print_list("Not needed:", manual.unnecessary)
        self._print_list("Left to you:", manual.left)
        text = f"{addresses.lms_url} signs in through {_titles(targets)}."
        self._print(f"\nConnected: {_wrap_text(text, indent=11)}")
        self._print_next("sign in once in a private window, then run `usher doctor --journey`")

    def _print_list(self, heading: str, lines: list[str]) -> None:
        if lines:
            self._print(f"\n{heading}")
        for line in lines:
            self._print(f"  - {_wrap_text(line, indent=4)}")

    def print_disconnected(
        self, names: list[str], stays: list[str], *, own_sign_in_restored: bool
    ) -> None:
        """Shows the end of a disconnection. names: none if an embedded LMS without applications
        was deleted; stays: sentences about data that was not removed; own_sign_in_restored: whether
        the LMS uses its own sign-in again."""
        self._data["stays"] = stays
        self._print_list("Not removed:", stays)
        names_text = ", ".join(names)
        self._print(f"\nDisconnected: {names_text}." if names else "\nThe LMS is deleted.")
        if own_sign_in_restored:
            self._print("The LMS's own sign-in is restored; learners' accounts are unchanged.")

    def print_nothing_to_do(self, text: str) -> None:
        self._print(f"Nothing to do: {_wrap_text(text, indent=15)}.")

    def print_error(self, message: str) -> None:
        """Shows why the command ended early."""
        self._data["error"] = message
        if self._as_json:
            self.flush(ok=False)
        Console(stderr=True, highlight=False, soft_wrap=True).print(_wrap_text(message, indent=0))

    def flush(self, *, ok: bool) -> None:
        """With ``as_json``, prints the JSON object. ok: whether the command ended without an
        error."""
        if self._as_json:
            self._data["ok"] = ok and not self.failed
            sys.stdout.write(json.dumps(self._data) + "\n")

    def _print_next(self, text: str) -> None:
        self._data.setdefault("remains", []).append(text)
        self._print(f"  next: {_wrap_text(text, indent=8)}")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(printable(text), style=style)


def _wrap_text(text: str, *, indent: int) -> str:
    """Returns the text for the console, wrapped. indent: spaces before the second and later
    lines."""
    return wrap(escape(text), indent)


def _titles(targets: list[TargetApplication]) -> str:
    return " and ".join(target.checkout.title for target in targets)
