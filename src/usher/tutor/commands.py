"""Commands ``tutor local|dev|k8s do usher-…``: each yields the service and the script of its job.

A job's script is an argument of the container engine and visible in process lists, so scripts
contain no secrets. Secrets are in the description of the LMS's records, a file whose path the
scripts contain. It is in the folder of lms.env.yml, whose path is LMS_CFG in every image.
"""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import click

from usher.contract import tutor_values
from usher.tutor.description import FILENAME

#: The path of the description, for a shell in a container.
DESCRIPTION = f'"$(dirname "$LMS_CFG")/{FILENAME}"'
#: Organization, number, run, title.
COURSES = (
    ("edX", "DemoX", "Demo_Course", "Demonstration Course"),
    ("edX", "E2E-101", "course", "E2E Test Course"),
)
#: What a command yields: the service that runs a script, and the script.
Job = Iterator[tuple[str, str]]


def _checked_by(check: Callable[[str, str], str], option: str = "") -> Callable[..., Any]:
    """Returns a click callback that checks a value, or each value of an option that may be
    repeated. Tutor renders a job's script as a template and a shell runs it, so values may have
    safe characters only. option: the option that error messages name; '' for the parameter's
    own."""

    def callback(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        place = option or f"--{parameter.name}"
        try:
            if isinstance(value, tuple):
                return tuple(check(item, place) for item in value)
            return check(value, place)
        except tutor_values.NotAllowed as error:
            raise click.BadParameter(str(error), param_hint=f"'{place}'") from None

    return callback


@click.command(help="Create the applications' records, service workers and tokens in the LMS")
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing")
def usher_provision(dry_run: bool) -> Job:
    yield "lms", provision_script("--dry-run" if dry_run else "")


@click.command(help="Print facts about the running LMS, as JSON without secrets")
def usher_report() -> Job:
    yield "lms", "./manage.py lms usher_report"


@click.command(help="Send webhooks and sign-outs that are due, and delete old ones; for a timer")
def usher_send_events() -> Job:
    yield "lms", "./manage.py lms usher_send_events"


@click.command(help="Remove from the LMS what usher-provision created")
@click.option(
    "--purge",
    is_flag=True,
    help="Also delete accounts and provider versions; without --purge they are only disabled",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing")
def usher_remove(purge: bool, dry_run: bool) -> Job:
    # ``provision_script`` leaves out ''.
    options = ("--remove", "--purge" if purge else "", "--dry-run" if dry_run else "")
    yield "lms", provision_script(*options)


@click.command(help="Link an application's learner to the existing LMS account of that username")
@click.option(
    "--username",
    required=True,
    multiple=True,
    metavar="NAME...",
    callback=_checked_by(tutor_values.username),
    help="The learner's username; to give several, separate them by spaces",
)
# An option of click takes one value: the other names of ``--username ann bob`` are arguments.
@click.argument(
    "more_usernames",
    metavar="",
    nargs=-1,
    callback=_checked_by(tutor_values.username, "--username"),
)
@click.option(
    "--application",
    required=True,
    callback=_checked_by(tutor_values.name),
    help="The application's name in USHER_APPLICATIONS",
)
@click.option("--unlink", is_flag=True, help="Remove the link; the account stays")
@click.option(
    "--account",
    default="",
    callback=_checked_by(lambda value, place: value and tutor_values.username(value, place)),
    help="With --unlink: username of the linked LMS account, if it differs from the learner's",
)
@click.option(
    "--move",
    is_flag=True,
    help="If the learner is linked to another LMS account, move the link; the learner loses "
    "access to that account",
)
def usher_link(
    username: tuple[str, ...],
    more_usernames: tuple[str, ...],
    application: str,
    unlink: bool,
    account: str,
    move: bool,
) -> Job:
    arguments = ["./manage.py", "lms", "usher_link", "--username", *username, *more_usernames]
    arguments += ["--application", application, *(["--unlink"] if unlink else [])]
    arguments += ["--account", account] if account else []
    arguments += ["--move"] if move else []
    yield "lms", shlex.join(arguments)


@click.command(help="Create the two courses that MITx Online's tests expect, if missing")
@click.option(
    "--owner",
    required=True,
    callback=_checked_by(tutor_values.email),
    help="E-mail address of a staff user of the LMS",
)
def usher_courses(owner: str) -> Job:
    yield "cms", courses_script(owner)


def courses_script(owner: str) -> str:
    """Returns a script that creates ``COURSES``; ``create_course`` leaves existing courses
    unchanged. owner: the e-mail address of a staff user."""
    lines = [
        shlex.join(["./manage.py", "cms", "create_course", "split", owner, org, number, run, title])
        for org, number, run, title in COURSES
    ]
    return "\n".join(lines)


def provision_script(*options: str) -> str:
    """Returns a script that runs ``usher_provision`` with the description and these options. An
    option '' is left out."""
    arguments = ["./manage.py lms usher_provision --file", DESCRIPTION, *options]
    return " ".join(argument for argument in arguments if argument)


COMMANDS = [
    usher_provision,
    usher_report,
    usher_remove,
    usher_link,
    usher_courses,
    usher_send_events,
]
