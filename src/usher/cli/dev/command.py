"""``usher dev``: runs your project and an embedded LMS, connected, until Ctrl-C."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.table import Table

from usher.cli.demo.command import show, stopped_by_signals
from usher.cli.demo.connection import SUPERUSER
from usher.cli.demo.errors import DemoError
from usher.cli.demo.setup import Step
from usher.cli.dev.project import Project
from usher.cli.dev.project_with_lms import ProjectWithLms
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath

PORT, LMS_PORT = 8000, 18000


@click.command()
@click.argument(
    "folder", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--once", is_flag=True, help="Stop when the learner is enrolled (for CI).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --once).")
@click.option(
    "--recheck",
    is_flag=True,
    help="Also create accounts that your database has from another LMS.",
)
@click.option(
    "--provision",
    is_flag=True,
    help="Restore the records and settings of the LMS and your project, then stop.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    show_default=True,
    help="Port of your project.",
)
@click.option(
    "--lms-port",
    type=click.IntRange(1, 65535),
    default=LMS_PORT,
    show_default=True,
    help="Port of the LMS.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of the LMS's data and the logs. Default: .usher/dev in your project.",
)
def dev(
    folder: Path,
    once: bool,
    as_json: bool,
    recheck: bool,
    provision: bool,
    port: int,
    lms_port: int,
    home: Path | None,
) -> None:
    """Run an embedded LMS, connected to the Django project in FOLDER.

    It migrates your project's database and adds the OAuth2 client of that LMS, two course runs and
    a learner. No file of your project is changed. --provision also works while it is running.
    """
    if provision:
        _provision(folder, home or folder / ".usher" / "dev")
        return
    if as_json and not once:
        raise click.UsageError("--json needs --once: without --once the command does not end.")
    console = Console(stderr=as_json, highlight=False)
    steps: list[Step] = []
    servers: ProjectWithLms | None = None
    try:
        with stopped_by_signals():
            project = Project.at(folder)
            folder_of_data = home or project.folder / ".usher" / "dev"
            servers = ProjectWithLms(project, folder_of_data, port, lms_port)
            servers.open()
            console.print(f"[bold]usher dev[/bold]  {project.name} and an embedded LMS\n")
            _take(servers.steps(recheck=recheck), steps, console)
            if as_json:
                shown = [asdict(step) | {"seconds": round(step.seconds, 3)} for step in steps]
                click.echo(json.dumps({"ok": True, "steps": shown}))
            if not once:
                _stay_up(servers, console)
    except (DemoError, OSError, httpx.HTTPError) as error:
        if as_json:
            shown = [asdict(step) for step in steps]
            click.echo(json.dumps({"ok": False, "steps": shown, "error": str(error)}))
            sys.exit(1)
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped. The LMS's data are kept for the next run.")
        sys.exit(130 if once else 0)
    finally:
        if servers is not None:
            servers.stop()


def _provision(folder: Path, home: Path) -> None:
    """``--provision``, which ``usher doctor`` suggests if records or settings were changed."""
    console = Console(highlight=False)
    try:
        _take(ProjectWithLms.found(folder, home).restore(), [], console)
    except (DemoError, OSError) as error:
        raise click.ClickException(str(error)) from error
    console.print("Restored. If the LMS's settings had been changed, restart `usher dev`.")


def _relative(folder: Path) -> Path:
    """``folder`` relative to the current folder, if it is inside it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _take(
    actions: Iterable[tuple[str, Callable[[], str]]], steps: list[Step], console: Console
) -> None:
    for name, action in actions:
        started = time.monotonic()
        detail = action()
        steps.append(Step(name, True, time.monotonic() - started, detail))
        show(steps[-1], console)


def _stay_up(servers: ProjectWithLms, console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    shown = _relative(servers.home)
    learner, password = servers.learner, servers.credentials.superuser_password
    for name, value in (
        (servers.project.name, servers.url),
        ("LMS", servers.lms_url + LmsPath.DASHBOARD),
        ("sign in", servers.lms_url + LmsPath.sign_in_start(DEFAULT_BACKEND)),
        ("learner", f"{learner.login}   {learner.password}" if learner.login else learner.without),
        ("LMS superuser", f"{SUPERUSER}   {password}   {servers.lms_url}/admin/"),
        ("logs", f"{shown}/project.log, worker.log, lms.log"),
        ("manage.py", f". {shown}/env && python manage.py shell"),
        ("doctor", "usher doctor"),
    ):
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print()
    console.print(table)
    console.print(
        "\nOpen the address after `sign in`. Your project asks for the learner's name and"
        "\npassword; then you are signed in to the LMS. In another terminal, run manage.py"
        "\nwith the command shown. Ctrl-C stops everything."
    )
    while True:
        servers.check()
        time.sleep(0.5)
