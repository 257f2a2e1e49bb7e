"""``tutor local|dev|k8s do usher-…``: each yields the service and the script of its job.

The description holds secrets, and a job's script is an argument of the container engine, so the
script only names the file: it lies beside lms.env.yml, which LMS_CFG names in every image.
"""

import shlex
from collections.abc import Callable, Iterator

import click

from usher.contract import tutor_values
from usher.tutor.description import FILENAME

DESCRIPTION = f'"$(dirname "$LMS_CFG")/{FILENAME}"'
#: Organization, number, run, title.
COURSES = (
    ("edX", "DemoX", "Demo_Course", "Demonstration Course"),
    ("edX", "E2E-101", "course", "E2E Test Course"),
)
Job = Iterator[tuple[str, str]]


def _as(check: Callable[[str, str], str]) -> Callable[..., str]:
    """Tutor renders the script of a job as a template, so words of it are checked as well."""

    def callback(_context: click.Context, parameter: click.Parameter, value: str) -> str:
        try:
            return check(value, f"--{parameter.name}")
        except tutor_values.NotAllowed as error:
            raise click.BadParameter(str(error)) from None

    return callback


@click.command(help="Create in the LMS what the applications need: records, service worker, token")
@click.option("--dry-run", is_flag=True, help="Only say what would change")
def usher_provision(dry_run: bool) -> Job:
    yield "lms", provision("--dry-run" if dry_run else "")


@click.command(help="Print what the running LMS has, as JSON, without secrets")
def usher_report() -> Job:
    yield "lms", "./manage.py lms usher_report"


@click.command(help="Send the applications what they missed, and forget old rows; for a timer")
def usher_send_events() -> Job:
    yield "lms", "./manage.py lms usher_send_events"


@click.command(help="Remove from the LMS what usher-provision made")
@click.option("--purge", is_flag=True, help="Leave no trace of it")
@click.option("--dry-run", is_flag=True, help="Only say what would change")
def usher_remove(purge: bool, dry_run: bool) -> Job:
    yield "lms", provision("--remove", "--purge" if purge else "", "--dry-run" if dry_run else "")


@click.command(help="Decide that an LMS account belongs to the application's learner of its name")
@click.option("--username", required=True, callback=_as(tutor_values.username))
@click.option(
    "--application",
    required=True,
    callback=_as(tutor_values.name),
    help="Its name in USHER_APPLICATIONS",
)
@click.option("--unlink", is_flag=True, help="Undo it; the account stays")
@click.option(
    "--account",
    default="",
    callback=_as(lambda value, place: value and tutor_values.username(value, place)),
    help="With --unlink: the LMS account that the learner is linked to, where it has another name",
)
@click.option(
    "--move", is_flag=True, help="Also if the learner signs in to another account: that ends"
)
def usher_link(username: str, application: str, unlink: bool, account: str, move: bool) -> Job:
    words = ["./manage.py", "lms", "usher_link", "--username", username]
    words += ["--application", application, *(["--unlink"] if unlink else [])]
    words += ["--account", account] if account else []
    words += ["--move"] if move else []
    yield "lms", shlex.join(words)


@click.command(help="Make the two courses that MITx Online's own tests expect, where missing")
@click.option(
    "--owner",
    required=True,
    callback=_as(tutor_values.email),
    help="E-mail address of a staff user of the LMS",
)
def usher_courses(owner: str) -> Job:
    yield "cms", courses_script(owner)


def courses_script(owner: str) -> str:
    """``create_course`` does not change an existing course. It started a week ago."""
    lines = [
        shlex.join(["./manage.py", "cms", "create_course", "split", owner, org, number, run, title])
        for org, number, run, title in COURSES
    ]
    return "\n".join(lines)


def provision(*options: str) -> str:
    words = ["./manage.py lms usher_provision --file", DESCRIPTION, *options]
    return " ".join(word for word in words if word)


COMMANDS = [
    usher_provision,
    usher_report,
    usher_remove,
    usher_link,
    usher_courses,
    usher_send_events,
]
