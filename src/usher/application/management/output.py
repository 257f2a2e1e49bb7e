"""The output of commands: a progress bar on a terminal, one last line, or JSON."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from usher.application.states import span
from usher.application.tokens.errors import NotConnected
from usher.client.errors import CircuitOpen, LmsError
from usher.contract.failures import FailureClass
from usher.contract.terminal import wrapped
from usher.engine.registry import other_system
from usher.engine.summary import Group, Summary

#: The most failures that are listed; the rest is counted. All are in the admin.
_SHOWN = 20


def seconds(text: str) -> float:
    """``text`` as seconds, for the ``type`` of an argument. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10**9:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


class EngineCommand(BaseCommand):
    """The base of all commands. Errors that an operator can correct are shown without a
    traceback."""

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
        """Yields a function to call with the summary so far. Draws only on a terminal."""
        if options["json"] or not sys.stderr.isatty():
            yield lambda summary: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title)
            yield lambda summary: bar.update(task, description=f"{title}: {summary.line()}")

    def note(self, text: str) -> None:
        """Writes a message about a wait to standard error, so that it is not part of the output."""
        self.stderr.write(text)

    def would_change(self, count: int, of: str, options: Any, **more: Any) -> None:
        """Writes the last line of a dry run. more: further keys of its JSON object."""
        if options["json"]:
            found = Summary(changed=count).as_dict() | {"dry_run": True}
            self.stdout.write(json.dumps(found | more))
        else:
            waiting = sum(group["count"] for group in more.get("waiting", ()))
            wait = f", {waiting} waiting" if waiting else ""
            mark = "✗" if more.get("stopped") else "✓"
            self.stdout.write(f"{mark} {of}: {count} would be changed{wait}, nothing was")

    def show_earlier(self, summary: Summary) -> None:
        """Lists rows that wait, and are tried again by themselves, and those that were refused
        before this run."""
        for group in summary.waiting:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += f"next attempt in {span(group.due_in or 0)}"
            self.stdout.write(f"… waiting {wrapped(text, 10)}")
        for group in summary.refused[:_SHOWN]:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += "retried by reconcile --recheck"
            self.stdout.write(f"– refused {wrapped(text, 10)}")

    def finish(self, summary: Summary, of: str, options: Any, **more: Any) -> None:
        """Writes the last line. Exits with 1 if a row failed in this run, or if rows wait because
        nothing can be sent to the LMS now; rows that wait for anything else are no failure. of:
        what is counted."""
        stopped = why_stopped(summary.waiting) if summary.waiting else ""
        if options["json"]:
            self.stdout.write(json.dumps(summary.as_dict() | {"stopped": stopped} | more))
        else:
            for failure in summary.failures[:_SHOWN]:
                text = f"{failure.kind} {failure.what}: {failure.message} [{failure.code}]"
                self.stdout.write(f"✗ failed  {wrapped(text, 10)}")
            if summary.failed > _SHOWN:
                self.stdout.write(f"  … and {summary.failed - _SHOWN} more, see the admin")
            self.show_earlier(summary)
            if stopped:
                self.show_stopped(stopped)
            mark = "✗" if summary.failed or stopped else "✓"
            self.stdout.write(f"{mark} {of}: {summary.line()}")
        if summary.failed or stopped:
            raise SystemExit(1)

    def show_stopped(self, why: str) -> None:
        self.stdout.write(f"✗ stopped {wrapped(why, 10)}")


def why_stopped(waiting: Iterable[Group] = ()) -> str:
    """Why nothing can be sent to the LMS now; '' if it can. waiting: groups of rows that wait; one
    of them may wait because of a failure that concerns all rows of its kind."""
    for group in waiting:
        if group.failure_class == FailureClass.SYSTEMIC or group.code == CircuitOpen.default_code:
            return group.message
    context = other_system().context()
    context.before_work()
    try:
        context.prove()
    except LmsError as error:
        return error.message
    return ""


def _about_database(error: DatabaseError | InterfaceError) -> str:
    words = str(error).strip().splitlines() or [type(error).__name__]
    return f"The database can't be used: {words[0]}. Is it up, and did manage.py migrate run?"
