"""``usher why``: the application's ``manage.py why``, from any folder."""

import json
import shlex
import sys
from pathlib import Path

import click

from usher.cli.errors import CannotRun
from usher.contract.folders import advice_about_parent
from usher.contract.options import PATH_OR_ADDRESS
from usher.doctor.facts.commands import CodeError, CommandError
from usher.doctor.find import DoctorOptions, NotFoundError, NothingHereError, find_places


@click.command()
@click.argument("learner")
@click.argument("run", required=False)
@click.option(
    "--application",
    type=PATH_OR_ADDRESS,
    default="",
    metavar="PATH",
    help="Checkout of the application, or folder of a demo. [default: the one in this folder]",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Instead, read the learner's records from the LMS now and compare them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(learner: str, run: str | None, application: str, compare: bool, as_json: bool) -> None:
    """Explain the state of LEARNER (e-mail, username or LMS username), or of the learner's
    enrollment in RUN.

    Exit code 1: the application knows no such learner or run; with --compare, something differs or
    is not in sync. 2: the application was not found, or its manage.py can't be run.
    """
    if compare and run is not None:
        raise click.UsageError("--compare compares all records of a learner: leave out the run.")
    path = application or ("." if Path("manage.py").is_file() else "")
    arguments = ["--json"] if as_json else []
    arguments += ["--", learner]
    if run is not None:
        arguments.append(run)
    try:
        manage = find_places(DoctorOptions(application=path)).manage
        if manage is None:
            raise CannotRun(
                f"{application or Path.cwd()} has no manage.py: name the application's folder with "
                "--application FOLDER, or run `manage.py why` where the application runs."
            )
        sys.exit(manage.run("compare_learner" if compare else "why", *arguments))
    except (CannotRun, NotFoundError, CommandError) as error:
        message = _message_about(error, learner)
        if as_json:
            click.echo(json.dumps({"ok": False, "error": message}))
        raise CannotRun(message) from error


def _message_about(error: Exception, learner: str) -> str:
    """What is missing, and what to do."""
    if isinstance(error, CodeError):
        return (
            f"The application's manage.py can't be run: {error.error}\n"
            "Correct this error, then run the command again."
        )
    if isinstance(error, NothingHereError):
        advice = advice_about_parent(Path.cwd()) or (
            "Go to the folder of your project's manage.py, or name it:\n"
            f"$ usher why {shlex.quote(learner)} --application FOLDER"
        )
        return f"There is no application in {Path.cwd()}. {advice}"
    return str(error)
