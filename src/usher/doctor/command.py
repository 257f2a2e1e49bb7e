"""``usher doctor`` and ``usher conformance``: parse, call, present."""

import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from usher.contract import exits
from usher.contract.options import ADDRESS, COMMAND_LINE, PATH_OR_ADDRESS
from usher.contract.terminal import wrap
from usher.doctor.conformance import run as conformance_run
from usher.doctor.conformance.discovery import ConformanceError
from usher.doctor.conformance.table import show as show_conformance
from usher.doctor.context import Context, create_context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.find import DoctorOptions, NotFoundError, connection_notice, find_places
from usher.doctor.journey import journey_line
from usher.doctor.present import list_as_dict, show, show_list
from usher.doctor.repairs import repairs_for
from usher.doctor.runner import Report, UnknownCheckError, run

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
#: The beginning of the line about an error.
_FAILED = "✗ failed  "
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.option(
    "--lms", "lms_url", type=ADDRESS, required=True, metavar="URL", help="Address of the LMS."
)
@click.option(
    "--token-file", required=True, type=_FILE, help="File with the service worker's token."
)
@click.option(
    "--client", "client_id", default="", metavar="ID", help="Id of an OAuth client of the LMS."
)
@click.option("--client-secret-file", type=_FILE, help="File with that client's secret.")
@click.option("--redirect-uri", default="", help="A redirect URI of that client.")
@click.option("--learner-token-file", type=_FILE, help="File with a learner's token, used to read.")
@click.option("--expired-token-file", type=_FILE, help="File with an expired token.")
@click.option("--backend", default="", help="Sign-in backend of the LMS. [default: detected]")
@click.option(
    "--write", is_flag=True, help="Also send requests that change the LMS, as a test learner."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def conformance(
    lms_url: str,
    token_file: Path,
    client_id: str,
    client_secret_file: Path | None,
    redirect_uri: str,
    learner_token_file: Path | None,
    expired_token_file: Path | None,
    backend: str,
    write: bool,
    as_json: bool,
) -> None:
    """Check whether an Open edX answers as Usher expects.

    Reads only, unless --write is given. Exit code 1 if an answer deviates, 2 if the LMS does not
    answer.
    """
    request = conformance_run.Request(
        lms_url=lms_url,
        token=_read_secret(token_file),
        learner_token=_read_secret(learner_token_file),
        expired_token=_read_secret(expired_token_file),
        client_id=client_id,
        client_secret=_read_secret(client_secret_file),
        redirect_uri=redirect_uri,
        backend=backend,
        write=write,
    )
    try:
        result = conformance_run.check(request)
    except ConformanceError as error:
        _exit_not_run(error, as_json=as_json)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=1))
    else:
        show_conformance(result, Console())
    sys.exit(exits.DONE if result.agrees else exits.FAILED)


@click.command()
@click.option("--list", "list_only", is_flag=True, help="List the checks and stop.")
@click.option(
    "--lms", "lms_url", type=ADDRESS, default="", metavar="URL", help="Address of the LMS."
)
@click.option(
    "--application",
    type=PATH_OR_ADDRESS,
    default="",
    metavar="PATH_OR_URL",
    help="Checkout or URL of the application, or the folder of a demo or of usher dev.",
)
@click.option("--env-file", type=_FILE, help="The application's .env, if not in its checkout.")
@click.option(
    "--manage",
    type=COMMAND_LINE,
    default="",
    metavar="COMMAND",
    help="Command that runs the application's manage.py.",
)
@click.option("--token-file", type=_FILE, help="File with the service worker's token.")
@click.option("--tutor-root", type=_FOLDER, help="Tutor's root; needed if there are several.")
@click.option(
    "--mode",
    type=click.Choice(["local", "dev", "nightly", "k8s"]),
    help="The mode in which Tutor runs the LMS. [default: detected]",
)
@click.option(
    "--tutor",
    default="",
    metavar="FILE",
    help="Tutor's executable. [default: that of the connection, or the one on PATH]",
)
@click.option("--lms-home", type=_FOLDER, help="Folder of the embedded LMS.")
@click.option(
    "--only", "only", multiple=True, metavar="ID", help="Run only this check. May be repeated."
)
@click.option("--fix", "fix", is_flag=True, help="Show safe repairs, ask, then make them.")
@click.option("--yes", "-y", is_flag=True, help="With --fix: do not ask for confirmation.")
@click.option("--verbose", is_flag=True, help="Show every check, including those that succeeded.")
@click.option("--journey", is_flag=True, help="Also sign in, enroll and sign out a test learner.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    list_only: bool,
    only: tuple[str, ...],
    fix: bool,
    yes: bool,
    verbose: bool,
    journey: bool,
    as_json: bool,
    **other_options: Any,
) -> None:
    """Check the connection between an application and Open edX.

    Lists each fault with its cause and fix, the root cause first.

    Exit code 0: every essential check passed, and no check failed. 1: a check failed. 2:
    doctor, or a check named by --only, could not run. 3: an essential check could not be made.
    """
    console = Console()
    if list_only:
        _list_checks(console, as_json=as_json)
        return
    options = _options_of(other_options)
    try:
        if notice := connection_notice(options):
            click.echo(wrap(notice, indent=0), err=True)
        with create_context(find_places(options)) as context:
            with _show_running(console, as_json=as_json):
                report = run(context, only)
            if fix:
                _repair(report, context, yes=yes)
        if fix:
            # Checks again with a new context, because a context keeps the facts from before.
            with (
                create_context(find_places(options)) as context,
                _show_running(console, as_json=as_json),
            ):
                report = run(context, only)
        if journey and report.healthy:
            with _show_running(console, as_json=as_json):
                _add_journey(report, options)
    except (NotFoundError, UnknownCheckError) as error:
        _exit_not_run(error, as_json=as_json)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        show(report, console, verbose=verbose)
    sys.exit(report.exit_code)


def _list_checks(console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(list_as_dict(), indent=1))
    else:
        show_list(console)


def _add_journey(report: Report, options: DoctorOptions) -> None:
    """Makes the journey, and adds its line and its duration to the report."""
    started = time.monotonic()
    with create_context(find_places(options)) as context:
        report.lines.append(journey_line(context))
    report.seconds += time.monotonic() - started


def _show_running(console: Console, *, as_json: bool) -> AbstractContextManager[object]:
    """Shows on a terminal that the checks are running, which may take a minute."""
    is_shown = console.is_terminal and not as_json
    return console.status("running the checks") if is_shown else nullcontext()


def _exit_not_run(error: Exception, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"ok": False, "error": str(error)}))
    else:
        click.echo(_FAILED + wrap(str(error), indent=len(_FAILED)), err=True)
    sys.exit(exits.NOT_RUN)


def _options_of(other_options: dict[str, Any]) -> DoctorOptions:
    return DoctorOptions(
        lms_url=other_options["lms_url"],
        application=other_options["application"],
        env_file=other_options["env_file"],
        manage=other_options["manage"],
        lms_home=other_options["lms_home"],
        tutor_root=other_options["tutor_root"],
        tutor_mode=other_options["mode"] or "",
        token=_read_secret(other_options["token_file"]),
        tutor=other_options["tutor"],
    )


def _repair(report: Report, context: Context, *, yes: bool) -> None:
    """Makes the repairs for this report, and asks before each of them unless ``yes``."""
    for name, repair in repairs_for(report).items():
        click.echo(wrap(f"fix {name}: {repair.description}", indent=4), err=True)
        if not (yes or click.confirm("Make this repair?", err=True)):
            continue
        try:
            repair.apply(context)
        except (NotKnownError, OSError) as error:
            click.echo(_FAILED + wrap(str(error), indent=len(_FAILED)), err=True)


def _read_secret(path: Path | None) -> str:
    """The token or secret in the file; '' without a file. Raises UsageError if it can't be sent."""
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} can't be read as text.") from error
    if not secret:
        raise click.UsageError(f"{path} is empty.")
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise click.UsageError(f"{path} has more than one word, or characters that no token has.")
    return secret
