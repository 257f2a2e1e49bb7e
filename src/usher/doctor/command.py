"""``usher doctor`` and ``usher conformance``: parse, call, present."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from usher.contract.terminal import printable
from usher.doctor.conformance import run as conformance_run
from usher.doctor.conformance.surroundings import ConformanceError
from usher.doctor.conformance.table import show as show_conformance
from usher.doctor.context import Context, look_at
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.find import DoctorOptions, NotFoundError, places
from usher.doctor.journey import journey_line
from usher.doctor.present import list_as_dict, show, show_list
from usher.doctor.repairs import offered
from usher.doctor.runner import Report, UnknownCheckError, run

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.option("--lms", "lms_url", required=True, metavar="URL", help="Address of the LMS.")
@click.option(
    "--token-file", required=True, type=_FILE, help="File with the service worker's token."
)
@click.option(
    "--client", "client_id", default="", metavar="ID", help="Id of an OAuth client of the LMS."
)
@click.option("--client-secret-file", type=_FILE, help="File with that client's secret.")
@click.option("--redirect-uri", default="", help="A redirect URI of that client.")
@click.option("--learner-token-file", type=_FILE, help="File with a learner's token, used to read.")
@click.option("--ended-token-file", type=_FILE, help="File with an expired token.")
@click.option("--backend", default="", help="Sign-in backend. Default: detected.")
@click.option(
    "--write", is_flag=True, help="Also send requests that change the LMS, as a test learner."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def conformance(
    lms_url: str,
    token_file: Path,
    client_id: str,
    client_secret_file: Path | None,
    redirect_uri: str,
    learner_token_file: Path | None,
    ended_token_file: Path | None,
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
        token=_secret(token_file),
        learner_token=_secret(learner_token_file),
        ended_token=_secret(ended_token_file),
        client_id=client_id,
        client_secret=_secret(client_secret_file),
        redirect_uri=redirect_uri,
        backend=backend,
        write=write,
    )
    try:
        result = conformance_run.check(request)
    except ConformanceError as error:
        _cant_look(error, as_json=as_json)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=1))
    else:
        show_conformance(result, Console())
    sys.exit(0 if result.agrees else 1)


@click.command()
@click.option("--list", "list_only", is_flag=True, help="List the checks and stop.")
@click.option("--lms", "lms_url", default="", metavar="URL", help="Address of the LMS.")
@click.option(
    "--application",
    default="",
    metavar="PATH_OR_URL",
    help="Checkout or URL of the application, or the folder of a demo or of usher dev.",
)
@click.option("--env-file", type=_FILE, help="Path of its .env, if not in the checkout.")
@click.option("--manage", default="", help="Command that runs its manage.py.")
@click.option("--token-file", type=_FILE, help="File with the service worker's token.")
@click.option("--tutor-root", type=_FOLDER, help="Root of the Tutor that runs the LMS.")
@click.option(
    "--mode",
    type=click.Choice(["local", "dev", "nightly", "k8s"]),
    help="Tutor's mode. Default: by the application's settings.",
)
@click.option("--tutor", default="", metavar="PATH", help="The tutor executable.")
@click.option("--lms-home", type=_FOLDER, help="Folder of an embedded LMS.")
@click.option(
    "--only", "only", multiple=True, metavar="ID", help="Run only this check. May be repeated."
)
@click.option("--fix", "fix", is_flag=True, help="Show safe repairs, then make them.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
@click.option("--journey", is_flag=True, help="Also sign in, enroll and sign out a test learner.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(
    list_only: bool, only: tuple[str, ...], fix: bool, yes: bool, as_json: bool, **named: Any
) -> None:
    """Check the connection between an application and Open edX.

    The first failed line is the root cause. Exit code 0: everything essential was seen to work and
    nothing failed. 1: a check failed. 2: doctor, or a check named by --only, could not run. 3: an
    essential check could not be made.
    """
    console = Console()
    if list_only:
        if as_json:
            click.echo(json.dumps(list_as_dict(), indent=1))
        else:
            show_list(console)
        return
    options = _options_of(named)
    try:
        with look_at(places(options)) as context:
            report = run(context, only)
            if fix:
                _repair(report, context, yes=yes)
        if fix:
            with look_at(places(options)) as context:
                report = run(context, only)
        if named["journey"] and report.healthy:
            with look_at(places(options)) as context:
                report.lines.append(journey_line(context))
    except (NotFoundError, UnknownCheckError) as error:
        _cant_look(error, as_json=as_json)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        show(report, console)
    sys.exit(report.exit_code)


def _cant_look(error: Exception, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": str(error)}))
    else:
        click.echo(f"✗ failed  {printable(str(error))}", err=True)
    sys.exit(2)


def _options_of(named: dict[str, Any]) -> DoctorOptions:
    return DoctorOptions(
        lms_url=named["lms_url"],
        application=named["application"],
        env_file=named["env_file"],
        manage=named["manage"],
        lms_home=named["lms_home"],
        tutor_root=named["tutor_root"],
        tutor_mode=named["mode"] or "",
        token=_secret(named["token_file"]),
        tutor=named["tutor"],
    )


def _repair(report: Report, context: Context, *, yes: bool) -> None:
    for name, repair in offered(report).items():
        click.echo(f"fix {name}: {repair.says}", err=True)
        if not (yes or click.confirm("Do that?", err=True)):
            continue
        try:
            repair.apply(context)
        except (NotKnownError, OSError) as error:
            click.echo(f"✗ failed  {printable(str(error))}", err=True)


def _secret(path: Path | None) -> str:
    return path.read_text(encoding="utf-8").strip() if path else ""
