"""Entry point of the ``usher`` command.

A command is imported when it is called. So ``usher --help`` is quick, and if an extra is not
installed, only the commands that need it fail, with a message that names the extra.
"""

import errno
import importlib
import json
import os
import sys
from typing import Any, NamedTuple

try:
    import click
except ModuleNotFoundError:
    sys.stderr.write(
        "The usher command needs packages that are not installed here. Install them with:\n"
        "pip install 'openedx-usher[shell]'\n"
    )
    sys.exit(2)

import usher


class _Entry(NamedTuple):
    """Where a command is. attribute: the command's name in its module. extra: the extra of Usher
    with the packages that the command needs."""

    module: str
    attribute: str
    extra: str
    short_help: str


#: Command name → its entry.
COMMANDS: dict[str, _Entry] = {
    "demo": _Entry(
        "usher.cli.demo.command",
        "demo",
        "campus,embedded",
        "Run the reference application and an embedded LMS.",
    ),
    "dev": _Entry(
        "usher.cli.dev.command",
        "dev",
        "embedded",
        "Run an embedded LMS, connected to your Django project.",
    ),
    "why": _Entry(
        "usher.cli.why",
        "why",
        "shell",
        "Explain one learner's state: account, enrollments, what happens next.",
    ),
    "connect": _Entry(
        "usher.connect.command",
        "connect",
        "shell",
        "Connect an application to Open edX run by Tutor, or to an embedded LMS.",
    ),
    "disconnect": _Entry(
        "usher.connect.command",
        "disconnect",
        "shell",
        "Remove the connection and restore the LMS's own sign-in.",
    ),
    "status": _Entry(
        "usher.connect.status",
        "status",
        "shell",
        "List the connections that usher connect has made on this machine.",
    ),
    "doctor": _Entry(
        "usher.doctor.command",
        "doctor",
        "shell",
        "Check the connection and name the cause of failures.",
    ),
    "drift": _Entry(
        "usher.sidecar.command",
        "drift_command",
        "shell",
        "Compare MITx Online or MIT xPro with the LMS; changes nothing.",
    ),
    "reconcile": _Entry(
        "usher.sidecar.command",
        "reconcile_command",
        "shell",
        "Create missing accounts, tokens and enrollments of MITx Online or MIT xPro.",
    ),
    "conformance": _Entry(
        "usher.doctor.command",
        "conformance",
        "shell",
        "Check whether an Open edX answers as Usher expects.",
    ),
}


class LazyCommands(click.Group):
    """Imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        entry = COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(entry.module), entry.attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "usher":
                raise  # a mistake in Usher, which no extra corrects
            from usher.cli.errors import CannotRun  # only for errors

            raise CannotRun(
                f"usher {cmd_name} needs the package {error.name!r}, which is not installed here. "
                f"Install it with:\n$ pip install 'openedx-usher[{entry.extra}]'"
            ) from error
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake in COMMANDS, not input
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggests similar commands if there is none with this name. Older versions of click do
        not, and newer ones look in ``commands``, which is empty here."""
        name = args[0]
        if name not in COMMANDS and name[:1].isalnum():
            from difflib import get_close_matches  # only for errors

            similar = get_close_matches(name, COMMANDS, n=1)
            suggestion = f" Did you mean '{similar[0]}'?" if similar else ""
            raise click.UsageError(f"No such command '{name}'.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Prints errors, with their lines wrapped, and ends with the error's exit code. With
        ``--json``, a wrong option also prints a JSON object."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if isinstance(error, click.NoSuchOption):
                _suggest_longer_options(error)
            if isinstance(error, click.UsageError):
                if as_json:
                    click.echo(json.dumps({"ok": False, "error": error.format_message()}))
                _print_usage(error.ctx or ctx)
            # Not click but this method prints the message: a new ClickException with the wrapped
            # message would not have the exit code of the error's subclass.
            _print_error(error)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # Otherwise Python would write the rest of the output at its exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            from usher.contract import exits, terminal  # only for interruptions

            # Click itself would exit with 1, which means something else for most commands.
            terminal.end_line_of_interrupt()
            click.echo("interrupted", err=True)
            ctx.exit(exits.INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short_help) for name, entry in COMMANDS.items()])


def _print_usage(ctx: click.Context) -> None:
    help_hint = f"Try '{ctx.command_path} --help' for help."
    click.echo(f"{ctx.get_usage()}\n{help_hint}\n", err=True)


def _print_error(error: click.ClickException) -> None:
    from usher.contract.terminal import wrap  # only for errors

    click.echo(f"Error: {wrap(error.format_message(), len('Error: '))}", err=True)


def _suggest_longer_options(error: click.NoSuchOption) -> None:
    """Adds the command's options that end with the mistyped one: ``--application-port`` for
    ``--port``. Click suggests only those of a similar length."""
    if error.ctx is not None:
        options = {name for param in error.ctx.command.params for name in param.opts}
        end = f"-{error.option_name.lstrip('-')}"
        longer = {name for name in options if name.endswith(end)}
        possibilities = sorted({*(error.possibilities or ()), *longer})
        error.possibilities = possibilities  # type: ignore[misc]  # newer versions: final


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(usher.__version__, prog_name="usher")
def main() -> None:
    """Usher connects a Django application and Open edX: one account, one sign-in."""


if __name__ == "__main__":
    main(prog_name="usher")
