"""The output of commands: a progress bar on a terminal, one last line, or JSON."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
)
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from usher.application.adapter import AdapterFailed
from usher.application.states import duration_text
from usher.application.tokens.errors import NotConnected
from usher.client.errors import CircuitOpen, LmsError, Unreachable
from usher.contract.failures import FailureClass
from usher.contract.terminal import end_line_of_interrupt, wrap
from usher.engine.registry import other_system
from usher.engine.summary import Group, Summary

#: The most failures that are listed; the rest is counted. All are in the admin.
_MAX_SHOWN = 20


def seconds(text: str) -> float:
    """``text`` as seconds, for the ``type`` of an argument. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10**9:  # False for inf and nan, too
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


class EngineCommand(BaseCommand):
    """The base of all commands. Errors that an operator can correct are shown without a traceback.
    With ``--json``, standard output gets a JSON object with the error, too."""

    _is_json_wanted = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done; change nothing"
        )

    def add_accept_missing(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--accept-missing",
            action="store_true",
            help="continue even if many objects are missing in the LMS; without this option the "
            "command then changes nothing, because another LMS may have answered",
        )

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Wraps the lines of errors about arguments, too."""
        parser = super().create_parser(prog_name, subcommand, **options)
        if getattr(self, "_called_from_command_line", False):  # an attribute of Django's
            print_error, indent = parser.error, len(f"{parser.prog}: error: ")

            def error(message: str) -> None:
                self._write_json_error(message)
                print_error(wrap(message, indent))

            setattr(parser, "error", error)  # noqa: B010 - mypy allows no assignment to a method
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        self._is_json_wanted = "--json" in argv
        super().run_from_argv(argv)

    def _write_json_error(self, message: str) -> None:
        """On the command line with ``--json``, writes the error as a JSON object."""
        if self._is_json_wanted:
            self.stdout.write(json.dumps({"ok": False, "error": message}))

    def execute(self, *args: Any, **options: Any) -> Any:
        """Wraps the lines of errors that Django prints on the command line after
        "CommandError: ". Exits with 1 if the reader of a pipe has gone."""
        try:
            return super().execute(*args, **options)
        except BrokenPipeError:  # as after `| head`
            # Otherwise Python would write the rest of the output at its exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except CommandError as error:
            if getattr(self, "_called_from_command_line", False) and not isinstance(
                error, SystemCheckError
            ):
                self._write_json_error(str(error))
                error.args = (wrap(str(error), len("CommandError: ")),)
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.act(**options)
        except (Unreachable, CircuitOpen) as error:
            raise CommandError(
                f"{error} Is the LMS running, and is OPENEDX_API_BASE_URL its address?"
            ) from error
        except (ImproperlyConfigured, NotConnected, LmsError, AdapterFailed) as error:
            raise CommandError(str(error)) from error
        except (OperationalError, ProgrammingError, InterfaceError) as error:
            raise CommandError(describe_database_error(error)) from error
        except KeyboardInterrupt:
            end_line_of_interrupt()
            raise CommandError(
                "Interrupted: nothing is lost. Run the command again.", returncode=130
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
        """Writes a message to standard error, to keep standard output free for the result."""
        self.stderr.write(text)

    def finish_dry_run(self, count: int, noun: str, options: Any, **more: Any) -> None:
        """Writes the last line of a dry run. count: how many records would be changed. noun: the
        name of the counted records, such as ``records`` or ``tokens``. more: further keys of the
        JSON object; ``waiting`` (groups) and ``stopped`` also show in the printed line."""
        if options["json"]:
            data = Summary(changed=count).as_dict() | {"dry_run": True}
            self.stdout.write(json.dumps(data | more))
        else:
            waiting = sum(group["count"] for group in more.get("waiting", ()))
            counts = f"{count} would be changed" + (f", {waiting} waiting" if waiting else "")
            mark = "✗" if more.get("stopped") else "✓"
            self.stdout.write(f"{mark} {noun}: {counts}; nothing was changed")

    def show_earlier(self, summary: Summary) -> None:
        """Lists the rows that wait, which a worker will retry, and the rows that were refused
        before this command."""
        for group in summary.waiting:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += f"next attempt in {duration_text(group.due_in or 0)}"
            self.stdout.write(f"… waiting {wrap(text, 10)}")
        for group in summary.refused[:_MAX_SHOWN]:
            text = f"{group.count} × {group.kind}: {group.message} [{group.code}] "
            text += "retried by reconcile --recheck"
            self.stdout.write(f"– refused {wrap(text, 10)}")

    def finish(
        self,
        summary: Summary,
        noun: str,
        options: Any,
        *,
        parts: Mapping[str, Summary] | None = None,
        unread: str = "",
        **more: Any,
    ) -> None:
        """Writes the last line. Exits with 1 if a row failed, if a list of the LMS was not read,
        or if rows wait because nothing can be sent to the LMS now. Rows that wait for another
        reason do not count as failed.

        noun: the name of the counted rows. parts: name → summary, for one line each instead of the
        one last line. unread: a sentence about a list of the LMS that could not be read to its
        end, '' for none. more: further keys of the JSON object.
        """
        stopped = unread
        if not stopped and summary.waiting:
            stopped = why_stopped(summary.waiting)
        if options["json"]:
            self.stdout.write(json.dumps(summary.as_dict() | {"stopped": stopped} | more))
        else:
            for failure in summary.failures[:_MAX_SHOWN]:
                text = f"{failure.kind} {failure.what}: {failure.message} [{failure.code}]"
                self.stdout.write(f"✗ failed  {wrap(text, 10)}")
            more_failures = summary.failed + summary.unread_lists - _MAX_SHOWN
            if more_failures > 0:
                self.stdout.write(f"  … and {more_failures} more, see the admin")
            self.show_earlier(summary)
            if stopped:
                self.show_stopped(stopped)
            for name, part in (parts or {noun: summary}).items():
                mark = "✗" if part.failed or part.unread_lists or stopped else "✓"
                self.stdout.write(f"{mark} {name}: {part.line()}")
        if summary.failed or summary.unread_lists or stopped:
            raise SystemExit(1)

    def show_stopped(self, reason: str) -> None:
        self.stdout.write(f"✗ stopped {wrap(reason, 10)}")


def why_stopped(waiting: Iterable[Group] = ()) -> str:
    """Why nothing can be sent to the LMS now; '' if requests can be sent. waiting: groups of rows
    that wait. The error of one of them is the reason if it concerns all rows. Otherwise asks the
    LMS."""
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


def describe_database_error(error: DatabaseError | InterfaceError) -> str:
    """Why the database can't be used, and what to do."""
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".") if lines else type(error).__name__
    is_about_tables = isinstance(error, ProgrammingError) and "exist" in text
    if is_about_tables or text.startswith(("no such table", "no such column")):
        return f"The database lacks tables or columns: {text}. Run `manage.py migrate`."
    if text.endswith("does not exist"):
        return f"The database can't be used: {text}. Create it first."
    if connection.vendor == "sqlite":
        file = connection.settings_dict["NAME"]
        if "readonly" in text:
            return (
                f"The database can't be written: this user may not write {file} or its folder. "
                "Change their owner or permissions, or run the command as their owner."
            )
        return f"The database can't be used: {text}. The file is {file} on this machine."
    return f"The database can't be used: {text}. Is it running?"
