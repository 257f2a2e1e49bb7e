"""``usher dev``: runs your project and an embedded LMS, connected, until Ctrl-C."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import click
import httpx
from rich.console import Console

from usher.cli.demo.command import stopped_by_signals
from usher.cli.demo.connection import SUPERUSER
from usher.cli.demo.errors import DemoError, NotStarted, ProcessEnded
from usher.cli.demo.setup import Step
from usher.cli.dev.ports import Ports
from usher.cli.dev.project import Project
from usher.cli.dev.project_with_lms import ProjectWithLms
from usher.cli.errors import as_click_error
from usher.cli.output import RunningSteps, relative_to_here, say, show_rows, show_step
from usher.contract import exits
from usher.contract.folders import DEV_FOLDER
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath
from usher.contract.terminal import as_typed

#: Seconds between two attempts of a step.
_SECONDS_BETWEEN_ATTEMPTS = 0.5
#: Seconds between two checks of the processes and of the project's files.
_SECONDS_BETWEEN_CHECKS = 1.0


@click.command()
@click.argument(
    "folder", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--once", is_flag=True, help="Stop when the learner is enrolled (for CI).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --once).")
@click.option(
    "--recheck",
    is_flag=True,
    help="Also re-check records that are in sync and retry refused ones, as `manage.py "
    "reconcile --recheck` does. Accounts that your database has from another LMS are created in "
    "this LMS.",
)
@click.option(
    "--provision",
    is_flag=True,
    help="Restore the records and settings of the LMS and your project, then exit.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Port of your project. [default: the port of the last start, or {Ports.project}]",
)
@click.option(
    "--lms-port",
    type=click.IntRange(1, 65535),
    help=f"Port of the LMS. [default: the port of the last start, or {Ports.lms}]",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of the LMS's data and the logs. [default: .usher/dev in your project]",
)
def dev(
    folder: Path,
    once: bool,
    as_json: bool,
    recheck: bool,
    provision: bool,
    port: int | None,
    lms_port: int | None,
    home: Path | None,
) -> None:
    """Run an embedded LMS, connected to the Django project in FOLDER.

    It migrates your project's database and adds the OAuth2 client of that LMS, two course runs and
    a learner. No file of your project is changed. --provision does not stop running servers.
    """
    if provision:
        _provision(folder, home or folder / DEV_FOLDER)
        return
    if as_json and not once:
        raise click.UsageError("--json needs --once: without --once the command does not end.")
    console = Console(stderr=as_json, highlight=False)
    steps: list[Step] = []
    servers: ProjectWithLms | None = None
    try:
        with stopped_by_signals():
            project = Project.at(folder)
            data_folder = home or project.folder / DEV_FOLDER
            ports = Ports.of_last_start(data_folder).with_options(project=port, lms=lms_port)
            servers = ProjectWithLms(project, data_folder, ports)
            servers.open()
            say(console, f"{project.name} and an embedded LMS\n", title="usher dev")
            _run_steps(
                servers.steps(recheck=recheck),
                steps,
                console,
                _repeat_after_saves(servers, console, once=once),
            )
            if as_json:
                data = [asdict(step) | {"seconds": round(step.seconds, 3)} for step in steps]
                click.echo(json.dumps({"ok": True, "steps": data}))
            if not once:
                _stay_up(servers, console)
            success = "Everything works. " if servers.is_signed_in else ""
            text = "The servers are stopped; without --once they keep running."
            say(console, f"\n{success}{text}")
    except (DemoError, OSError, httpx.HTTPError) as error:
        if as_json:
            data = [asdict(step) for step in steps]
            click.echo(json.dumps({"ok": False, "steps": data, "error": str(error)}))
            sys.exit(as_click_error(error).exit_code)
        raise as_click_error(error) from error
    except KeyboardInterrupt:
        say(console, "\nStopped. The LMS's data are kept for the next start.")
        sys.exit(exits.INTERRUPTED if once else exits.DONE)
    finally:
        if servers is not None:
            servers.stop()


def _provision(folder: Path, home: Path) -> None:
    """Runs ``--provision``, which ``usher doctor`` suggests if records or settings were changed."""
    console = Console(highlight=False)
    try:
        servers = ProjectWithLms.existing(folder, home)
        is_running = not servers.try_to_lock()
        try:
            _run_steps(servers.restore(), steps=[], console=console)
        finally:
            servers.stop()
    except (DemoError, OSError) as error:
        raise as_click_error(error) from error
    if not is_running:
        say(console, "The next `usher dev` compares the learner's enrollments with the LMS.")
    elif servers.settings_restored:
        say(console, "Restart `usher dev`: the running LMS still uses the previous settings.")
    else:
        say(console, "The worker of `usher dev` now compares the learner's enrollments.")


def _repeat_after_saves(
    servers: ProjectWithLms, console: Console, *, once: bool
) -> Callable[[Callable[[], str]], str]:
    """Returns a function that runs a step. If the step fails after a file of the project was saved
    during the start, the function repeats the step: after a moment if the last save was a few
    seconds ago, otherwise after the next save or, with ``once``, not at all. It raises all other
    errors, and always NotStarted."""

    def run(action: Callable[[], str]) -> str:
        while True:
            try:
                return action()
            except NotStarted:
                raise
            except DemoError as error:
                is_restarted = servers.restart_after_recent_change()
                if not is_restarted:
                    if once or not servers.has_changed:
                        raise
                    cause = error.report if isinstance(error, ProcessEnded) else str(error)
                    advice = (
                        "This step is repeated when a Python file or .env of your project changes."
                    )
                    say(console, f"\n{cause}\n{advice}\n")
                    servers.wait_for_change()
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)

    return run


def _run_steps(
    actions: Iterable[tuple[str, Callable[[], str]]],
    steps: list[Step],
    console: Console,
    run: Callable[[Callable[[], str]], str] = lambda action: action(),
) -> None:
    """Runs the actions with ``run``, and adds each result to ``steps``. Prints the name of a step
    when it begins, and its result when it is done."""
    longest_name = "connected"
    with RunningSteps(console) as running:
        for name, action in actions:
            running.begin(name)
            started = time.monotonic()
            detail = run(action)
            running.end(name)
            steps.append(Step(id=name, ok=True, seconds=time.monotonic() - started, detail=detail))
            show_step(steps[-1], console, width=len(longest_name))


def _stay_up(servers: ProjectWithLms, console: Console) -> None:
    """Prints addresses, accounts and commands. Then follows changes of the project until Ctrl-C or
    until a server ends."""
    home = relative_to_here(servers.home)
    folder = servers.project.folder
    cd = "" if folder == Path.cwd() else f"cd {quote(str(relative_to_here(folder)))} && "
    env_file = servers.environment_file if cd else relative_to_here(servers.environment_file)
    doctor_command = "usher doctor"
    if cd:
        doctor_command += f" --application {quote(str(relative_to_here(folder)))}"
    learner, password = servers.learner, servers.credentials.superuser_password
    learner_text = f"{learner.login}   {learner.password}"
    if not learner.login:
        learner_text = learner.creation_error
    rows = (
        (servers.project.name, servers.url),
        ("LMS", servers.lms_url + LmsPath.DASHBOARD),
        ("sign in", servers.lms_url + LmsPath.sign_in_start(DEFAULT_BACKEND)),
        ("learner", learner_text),
        ("LMS admin", f"{servers.lms_url}/admin/"),
        ("LMS superuser", f"{SUPERUSER}   {password}"),
        ("logs", f"{home}/project.log, worker.log, lms.log"),
        ("manage.py", f"{cd}. {quote(str(env_file))} && python manage.py shell"),
        ("doctor", as_typed(doctor_command)),
    )
    show_rows(rows, console)
    say(
        console,
        "\nOpen the address in the line `sign in`. Your project asks for the learner's "
        f"{learner.login_name} and password; then you are signed in to the LMS. In another "
        "terminal, run manage.py with the command shown.\nIf you change Python files or .env, "
        "the project and the worker restart. Ctrl-C stops everything.",
    )
    while True:
        # Before ``check``, because a changed file may be the reason why a process has ended.
        if message := servers.follow_changes():
            say(console, f"\n{message}")
        servers.check()
        time.sleep(_SECONDS_BETWEEN_CHECKS)
