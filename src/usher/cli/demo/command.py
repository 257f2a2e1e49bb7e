"""``usher demo``: runs the reference application and an embedded LMS until Ctrl-C."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

import click
from rich.console import Console

from usher.cli.demo.connection import SUPERUSER
from usher.cli.demo.errors import DemoError
from usher.cli.demo.learner_journey import LearnerJourney
from usher.cli.demo.pair import LMS_PORT, Pair, checkout_folder
from usher.cli.demo.setup import APPLICATION_SUPERUSER, SetUp, Step
from usher.cli.demo.trouble.breaking import Trouble, cases_as_data
from usher.cli.demo.trouble.cases import CASES
from usher.cli.errors import as_click_error
from usher.cli.output import RunningSteps, relative_to_here, say, show_rows, show_step
from usher.contract import exits
from usher.contract.editions import EDITIONS, MITXONLINE
from usher.contract.paths import LmsPath
from usher.contract.terminal import as_typed, wrap

#: Seconds between two checks of whether the servers are running.
_SECONDS_BETWEEN_CHECKS = 0.5


@click.command()
@click.option(
    "--edition",
    type=click.Choice(sorted(EDITIONS)),
    default=MITXONLINE.name,
    show_default=True,
    help="Which application to run.",
)
@click.option("--once", is_flag=True, help="Stop after the last step (for CI). Uses free ports.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --once).")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of the data and logs. [default: .demo/EDITION in the checkout; with --once a "
    "temporary one]",
)
@click.option(
    "--application-port",
    type=click.IntRange(1, 65535),
    help="Port of the application. [default: "
    + ", ".join(f"{EDITIONS[name].port} ({name})" for name in sorted(EDITIONS))
    + "]",
)
@click.option(
    "--lms-port", type=click.IntRange(1, 65535), help=f"Port of the LMS. [default: {LMS_PORT}]"
)
@click.option(
    "--trouble", is_flag=True, help="Break the records of thirty learners, to practise support."
)
@click.option(
    "--provision",
    is_flag=True,
    help="Restore the records and settings of the application and the LMS, then exit.",
)
def demo(
    edition: str,
    once: bool,
    as_json: bool,
    home: Path | None,
    application_port: int | None,
    lms_port: int | None,
    trouble: bool,
    provision: bool,
) -> None:
    """Run the reference application and an embedded LMS, connected.

    A test learner signs up, signs in to the LMS, is enrolled and signs out. --provision does not
    stop a running demo. --trouble breaks the records of thirty learners and prints their questions;
    the answers are in docs/trouble.md.
    """
    if provision:
        _provision(home or checkout_folder() / ".demo" / edition)
        return
    if as_json and not once:
        raise click.UsageError("--json needs --once: without --once the demo does not end.")
    console = Console(stderr=as_json, highlight=False)
    # Whether data and logs stay after the end of the command.
    keeps_home = home is not None or not once
    try:
        with ExitStack() as stack:
            stack.enter_context(stopped_by_signals())
            if keeps_home:
                data_folder = home or checkout_folder() / ".demo" / edition
            else:
                temporary_folder = tempfile.TemporaryDirectory(prefix="usher-demo-")
                data_folder = Path(stack.enter_context(temporary_folder))
            if not once:  # with --once, the default is any free port
                application_port = application_port or EDITIONS[edition].port
                lms_port = lms_port or LMS_PORT
            pair = Pair(
                data_folder,
                EDITIONS[edition],
                application_port=application_port,
                lms_port=lms_port,
            )
            stack.callback(pair.stop)
            steps, journey = _run(pair, console, trouble=trouble)
            ok = all(step.ok for step in steps)
            if as_json:
                result = _result_as_dict(edition, steps)
                if trouble and ok:
                    result["trouble"] = cases_as_data()
                click.echo(json.dumps(result))
            if trouble and ok:
                _print_questions(console)
            if not once and ok:
                _stay_up(pair, journey, console)
            elif not ok:
                _print_logs(pair, console, keeps_home=keeps_home)
            else:
                text = "The servers are stopped; without --once they keep running."
                say(console, f"\nEverything works. {text}")
    except (DemoError, OSError) as error:
        message = str(error) if isinstance(error, DemoError) else _message_about_folder(error)
        if as_json:
            click.echo(json.dumps({"ok": False, "edition": edition, "steps": [], "error": message}))
            sys.exit(as_click_error(error).exit_code)
        raise as_click_error(error, message) from error
    except KeyboardInterrupt:
        state_of_data = (
            "the data are kept for the next start"
            if keeps_home
            else "the temporary folder is deleted"
        )
        say(console, f"\nStopped. Both servers are down; {state_of_data}.")
        sys.exit(exits.INTERRUPTED if once else exits.DONE)
    sys.exit(exits.DONE if ok else exits.FAILED)


def _result_as_dict(edition: str, steps: list[Step]) -> dict[str, Any]:
    """The object that ``--json`` prints, without the cases of ``--trouble``."""
    return {
        "ok": all(step.ok for step in steps),
        "edition": edition,
        "steps": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in steps],
    }


def _provision(home: Path) -> None:
    """Runs ``--provision``, which ``usher doctor`` suggests if records or settings were changed."""
    console = Console(highlight=False)
    try:
        pair = Pair.existing(home)
        with RunningSteps(console) as running:

            def report(step: Step) -> None:
                running.end(step.id)
                show_step(step, console)

            SetUp(pair, report, running.begin).restore()
    except DemoError as error:
        raise as_click_error(error) from error
    say(console, "Restored. If settings had been changed, restart the demo.")


def _message_about_folder(error: OSError) -> str:
    """The message for a full disk, a folder without write permission, or a file at the folder's
    path."""
    return (
        f"The folder of the demo can't be used: {error}. "
        "Correct this, or choose another folder with --home FOLDER."
    )


def _run(pair: Pair, console: Console, *, trouble: bool) -> tuple[list[Step], LearnerJourney]:
    """Sets up and starts the pair, then does the learner's journey, and with ``trouble`` breaks the
    cases. Returns the steps done, of which the last may have failed, and the journey."""
    steps: list[Step] = []

    running = RunningSteps(console)

    def report(step: Step) -> None:
        running.end(step.id)
        steps.append(step)
        show_step(step, console)

    pair.lock()
    pair.check_ports()
    text = f"the reference application ({pair.edition.title} edition) and an embedded LMS\n"
    say(console, text, title="Usher demo")
    with running:
        pair.prepare(report, running.begin)
        running.begin("servers")
        started = time.monotonic()
        pair.start()
        urls = f"{pair.edition.title} at {pair.application_url}, LMS at {pair.lms_url}"
        seconds = time.monotonic() - started
        report(Step(id="servers", ok=True, seconds=seconds, detail=f"{urls}, worker"))
    journey = LearnerJourney(pair)
    for step in journey.steps():
        report(step)
    if trouble and all(step.ok for step in steps):
        for step in Trouble(pair).steps():
            report(step)
    return steps, journey


_EMAIL_WIDTH = 26
#: The column in which a learner's question begins, behind its number and the learner's address.
_QUESTION_COLUMN = len("  30  ") + _EMAIL_WIDTH + len(" ")


def _print_questions(console: Console) -> None:
    """Prints the learners' questions; the answers are in docs/trouble.md."""
    console.print(f"\n[bold]{len(CASES)} learners write to support[/bold]\n")
    for number, case in enumerate(CASES, start=1):
        question = wrap(f"“{case.says}”", indent=_QUESTION_COLUMN)
        console.print(f"  {number:>2}  {case.email:<{_EMAIL_WIDTH}} {question}", soft_wrap=True)
    say(
        console,
        "\nFind the cause of each in the console, as support staff would. "
        "The answers are in docs/trouble.md.",
    )


def _stay_up(pair: Pair, journey: LearnerJourney, console: Console) -> None:
    """Prints addresses, accounts and folders, then waits for Ctrl-C or until a server ends."""
    home, env, python, manage = (
        quote(str(relative_to_here(path)))
        for path in (
            pair.home,
            pair.environment_file,
            Path(sys.executable),
            pair.campus_folder / "manage.py",
        )
    )
    password = pair.credentials.superuser_password
    rows = (
        (pair.edition.title, pair.application_url),
        ("admin", f"{pair.application_url}/admin/"),
        ("console", f"{pair.application_url}/staff/"),
        ("LMS dashboard", pair.lms_url + LmsPath.DASHBOARD),
        ("LMS admin", f"{pair.lms_url}/admin/"),
        ("learner", f"{journey.email}   {journey.password}"),
        ("superuser", f"{APPLICATION_SUPERUSER}   {password}"),
        ("LMS superuser", f"{SUPERUSER}   {password}"),
        ("sent mail", str(pair.mail_folder)),
        ("data and logs", str(pair.home)),
        ("manage.py", f". {env} && {python} {manage} shell"),
        (
            "doctor",
            as_typed(f"usher doctor --application {home}"),
        ),
    )
    show_rows(rows, console)
    say(
        console,
        f"\nOpen {pair.application_url} and sign in as the learner. Choose the course, then "
        "“Open the course”: the LMS opens, and you are signed in there.\nCtrl-C stops everything.",
    )
    while True:
        pair.check()
        time.sleep(_SECONDS_BETWEEN_CHECKS)


def _print_logs(pair: Pair, console: Console, *, keeps_home: bool) -> None:
    say(console, "\nThe step marked ✗ failed.")
    if keeps_home:
        say(console, f"Logs: {pair.home}/application.log, lms.log and worker.log.")
    else:
        say(console, "Run `usher demo --once --home FOLDER` to keep the logs.")


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt within the block, as Ctrl-C does, so that both stop the
    servers.

    SIGINT gets a handler too, because a shell ignores SIGINT for commands in the background.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
