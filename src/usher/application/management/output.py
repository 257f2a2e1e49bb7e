"""How commands show what they do: a bar on a terminal, one last line, JSON for machines."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from usher.application.tokens.errors import NotConnected
from usher.client.errors import LmsError
from usher.contract.terminal import wrapped
from usher.engine.summary import Summary

#: Failures shown by name; the rest is counted, and all of them stand in the admin.
_SHOWN = 20


def seconds(text: str) -> float:
    """The type of an argument that says how long to wait."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10**9:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


class EngineCommand(BaseCommand):
    """The base of all commands: no traceback for what a person can put right."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done; change nothing"
        )

    def add_accept_missing(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--accept-missing",
            action="store_true",
            help="accept that objects are missing in the LMS, however many",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.act(**options)
        except (ImproperlyConfigured, NotConnected, LmsError) as error:
            raise CommandError(str(error)) from error
        except (OperationalError, ProgrammingError, InterfaceError) as error:
            raise CommandError(_about_database(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted: nothing is lost, run it again.", returncode=130
            ) from None

    def act(self, **options: Any) -> None:
        raise NotImplementedError

    @contextmanager
    def progress(self, title: str, options: Any) -> Iterator[Callable[[Summary], None]]:
        """Gives what to call with the summary so far; draws only on a terminal."""
        if options["json"] or not sys.stderr.isatty():
            yield lambda summary: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title)
            yield lambda summary: bar.update(task, description=f"{title}: {summary.line()}")

    def note(self, text: str) -> None:
        """Something a waiting person wants to know; never in the way of the output."""
        self.stderr.write(text)

    def would_change(self, count: int, of: str, options: Any, **more: Any) -> None:
        """The last line of a dry run. more: keys of its JSON object."""
        if options["json"]:
            found = Summary(changed=count).as_dict() | {"dry_run": True}
            self.stdout.write(json.dumps(found | more))
        else:
            waiting = sum(group["count"] for group in more.get("waiting", ()))
            wait = f", {waiting} waiting" if waiting else ""
            mark = "✗" if waiting or more.get("stopped") else "✓"
            self.stdout.write(f"{mark} {of}: {count} would be changed{wait}, nothing was")

    def show_earlier(self, summary: Summary) -> None:
        """Rows that failed before this run: those that wait, and those that were refused."""
        for group in summary.waiting:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += f"next attempt in {group.due_in or 0:.0f} s"
            self.stdout.write(f"✗ waiting {wrapped(text, 10)}")
        for group in summary.refused[:_SHOWN]:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += "retried by reconcile --recheck"
            self.stdout.write(f"– refused {wrapped(text, 10)}")

    def finish(self, summary: Summary, of: str, options: Any, **more: Any) -> None:
        """The last line, and the exit code: not 0 when something failed, or waits because it failed
        before. of: what is counted."""
        if options["json"]:
            self.stdout.write(json.dumps(summary.as_dict() | more))
        else:
            for failure in summary.failures[:_SHOWN]:
                text = f"{failure.kind} {failure.what}: {failure.message} [{failure.code}]"
                self.stdout.write(f"✗ failed  {wrapped(text, 10)}")
            if summary.failed > _SHOWN:
                self.stdout.write(f"  … and {summary.failed - _SHOWN} more, see the admin")
            self.show_earlier(summary)
            mark = "✗" if summary.failed or summary.waiting else "✓"
            self.stdout.write(f"{mark} {of}: {summary.line()}")
        if summary.failed or summary.waiting:
            raise SystemExit(1)


def _about_database(error: DatabaseError | InterfaceError) -> str:
    words = str(error).strip().splitlines() or [type(error).__name__]
    return f"The database can't be used: {words[0]}. Is it up, and did manage.py migrate run?"
