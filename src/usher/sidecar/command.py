"""``usher drift`` and ``usher reconcile``: parse, call one function, show the outcome."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape

from usher.client.errors import LmsError
from usher.connect.application.checkout import Wishes
from usher.connect.errors import ConnectError
from usher.contract import connections
from usher.contract.editions import EDITIONS
from usher.contract.terminal import printable, wrapped
from usher.sidecar import reconcile as reconciling
from usher.sidecar.console.server import HOST as LOOPBACK
from usher.sidecar.console.server import serving
from usher.sidecar.drift import KINDS, USUAL, drift
from usher.sidecar.errors import SidecarError
from usher.sidecar.given_up import given_up
from usher.sidecar.opening import opened_application, with_lms
from usher.sidecar.outcome import DONE, LEFT, REFUSED, Outcome
from usher.sidecar.watched import Watched
from usher.sidecar.watching import watch

T = TypeVar("T")
#: Exit codes: 1 something differs or was refused, 2 it could not be looked at.
DIFFERS, NOT_ASKED = 1, 2


def _application_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option(
                "--application",
                default="",
                metavar="PATH_OR_URL",
                help="A checkout of MITx Online or MIT xPro [default: the one connected].",
            ),
            click.option(
                "--edition", type=click.Choice(sorted(EDITIONS)), help="Which application it is."
            ),
            click.option(
                "--manage",
                default="",
                metavar="COMMAND",
                help="Command that runs its manage.py, such as 'kubectl exec -i deploy/web -- "
                "./manage.py'.",
            ),
            click.option("--env-file", default="", help="Path of its .env."),
            click.option(
                "--lms-url",
                default="",
                help="The LMS's address from here [default: the application's own setting].",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        ]
    ):
        command = option(command)
    return command


@click.command("drift")
@_application_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Compare only this kind. Grades and certificates are compared only if named.",
)
@click.option(
    "--given-up",
    "only_given_up",
    is_flag=True,
    help="List only learners whom the application gave up; do not ask the LMS.",
)
def drift_command(kinds: tuple[str, ...], only_given_up: bool, as_json: bool, **given: Any) -> None:
    """Compare an application with the LMS and change nothing.

    Lists the learners whom the application gave up, with its reasons, and the differences between
    the application and the LMS. Exit code 1 if there are any.
    """
    show = _Shown(as_json)
    with _told():
        wishes, lms_url = _wishes(given)
        with opened_application(wishes) as (checkout, adapter, agent):
            show.application(adapter.title)
            for learner in given_up(agent, adapter):
                show.given_up(learner.kind, learner.what, learner.reason)
            if not only_given_up:
                sides = with_lms(checkout, adapter, agent, lms_url)
                for difference in drift(sides, kinds or USUAL):
                    show.difference(**asdict(difference))
        show.end("nobody was given up" if only_given_up else "nothing differs in the LMS")
    if show.found:
        sys.exit(DIFFERS)


@click.command("reconcile")
@_application_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(reconciling.KINDS),
    help="Only this kind. Accounts include tokens. Unenrollments and profiles are reconciled "
    "only if named.",
)
@click.option("--user", default="", metavar="NAME", help="Only this username or e-mail address.")
@click.option("--run", default="", metavar="KEY", help="Only enrollments in this course run.")
@click.option("--dry-run", is_flag=True, help="Show how much is due and change nothing.")
@click.option("--watch", "watching", is_flag=True, help="Continue until stopped.")
@click.option(
    "--console",
    "with_console",
    is_flag=True,
    help="With --watch: serve pages about it on this machine, by a link that is good once.",
)
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the pages [default: a free one].",
)
@click.option(
    "--metrics",
    "metrics_at",
    default="",
    metavar="[HOST:]PORT",
    help="With --watch: answer Prometheus there [default host: 127.0.0.1].",
)
def reconcile_command(
    kinds: tuple[str, ...],
    user: str,
    run: str,
    dry_run: bool,
    watching: bool,
    with_console: bool,
    console_port: int,
    metrics_at: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Create in the LMS what an application lacks there: accounts, tokens, enrollments.

    Reads what is due from the application's tables and writes back what was achieved; titles and
    dates of course runs follow the LMS. Orders, payments and messages are never touched. It can be
    stopped and run again at any time.
    """
    asked = reconciling.Asked(kinds or reconciling.USUAL, user, run)
    if (with_console or metrics_at) and (dry_run or not watching):
        raise click.UsageError("--console and --metrics go with --watch.")
    show = _Progress(as_json)
    with _told():
        wishes, lms_url = _wishes(given)
        if watching and not dry_run:
            port = console_port if with_console else None
            with _served(port, metrics_at, show) as watched:
                watch(
                    wishes,
                    lms_url,
                    asked,
                    after=show.end,
                    troubled=show.trouble,
                    watched=watched,
                )
            show.stopped()
            return
        with opened_application(wishes) as (checkout, adapter, agent):
            due = reconciling.count_due(agent, adapter, asked)
            sides = with_lms(checkout, adapter, agent, lms_url)
            if dry_run:
                due |= reconciling.count_compared(sides, asked)
                show.due(adapter.title, due)
                show.dry_run(due)
                return
            show.due(adapter.title, due)
            with show.going() as progress:
                outcome = reconciling.reconcile(sides, asked, Outcome(progress))
        show.end(outcome)
    if not outcome.ok:
        sys.exit(DIFFERS)


@contextmanager
def _served(console_port: int | None, metrics_at: str, show: _Progress) -> Iterator[Watched]:
    """Pages and metrics, where they are asked for. console_port: None for no pages."""
    with ExitStack() as stack:
        counting = None
        if metrics_at:
            from usher.sidecar import metrics

            host, _, port = metrics_at.rpartition(":")
            if not port.isascii() or not port.isdigit() or int(port) > 65535:
                raise click.UsageError(f"--metrics: {metrics_at!r} is no [HOST:]PORT.")
            counting, host = metrics.Metrics(), host.strip("[]") or LOOPBACK
            given = stack.enter_context(
                _listening(metrics_at, metrics.serving(counting, host, int(port)))
            )
            show.serves(f"metrics at http://{host}:{given}/metrics")
        watched = Watched(counting)
        if console_port is not None:
            pages = serving(watched, console_port, show.link)
            stack.enter_context(_listening(f"port {console_port}", pages))
        yield watched


@contextmanager
def _listening(where: str, server: AbstractContextManager[T]) -> Iterator[T]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(server)
        except OSError as error:
            raise SidecarError(
                f"{where} can't be listened on: {error.strerror or error}"
            ) from error
        yield found


class _Progress:
    """Lines for people; with ``as_json`` one object for each thing that is told."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True, stderr=as_json)

    def due(self, title: str, numbers: dict[str, int]) -> None:
        told = ", ".join(f"{number} {kind}s" for kind, number in numbers.items())
        if numbers:
            self._console.print(f"{title}: {told} due")

    def dry_run(self, numbers: dict[str, int]) -> None:
        if self._as_json:
            click.echo(json.dumps({"due": numbers}))

    @contextmanager
    def going(self) -> Iterator[Callable[[Outcome], None]]:
        if not self._console.is_terminal:
            yield lambda outcome: None
            return
        with self._console.status("working") as status:

            def told(outcome: Outcome) -> None:
                status.update(f"{outcome.total(DONE)} done, {outcome.total(REFUSED)} refused")

            yield told

    def end(self, outcome: Outcome) -> None:
        if self._as_json:
            click.echo(json.dumps(outcome.as_data()))
        for entry in outcome.reasons:
            mark = "·" if entry["result"] == LEFT else "✗"
            words = wrapped(escape(f"{entry['what']}: {entry['reason']}"), 24)
            self._console.print(f"  {mark} {entry['result']:<8} {entry['kind']:<10} {words}")
        for kind, numbers in outcome.as_data()["kinds"].items():
            told = ", ".join(f"{number} {result}" for result, number in numbers.items() if number)
            self._console.print(f"{'✓' if outcome.ok else '✗'} {kind:<10} {told}")
        if not outcome.numbers:
            self._console.print("✓ nothing to do")

    def link(self, address: str) -> None:
        """To standard error alone: it lets in who reads it."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"console  {address}  (good once; then the browser is let in until this ends)"
        )

    def serves(self, what: str) -> None:
        self._console.print(what)

    def stopped(self) -> None:
        self._console.print("stopped; nothing is left half done")

    def trouble(self, reason: str, wait: float) -> None:
        self._console.print(f"✗ {escape(printable(reason))}; trying again in {wait:.0f} s")


class _Shown:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        self._data: dict[str, Any] = {"application": "", "given_up": [], "differences": []}

    @property
    def found(self) -> int:
        return len(self._data["given_up"]) + len(self._data["differences"])

    def application(self, title: str) -> None:
        self._data["application"] = title

    def given_up(self, kind: str, what: str, reason: str) -> None:
        if not self._data["given_up"]:
            self._say(f"\nGiven up by {self._data['application']} itself:")
        self._data["given_up"].append({"kind": kind, "what": what, "reason": reason})
        self._line("[red]✗[/red]", kind, what, reason)

    def difference(self, kind: str, what: str, difference: str, waiting: bool) -> None:
        if not self._data["differences"]:
            self._say("\nDifferent in the LMS:")
        entry = {"kind": kind, "what": what, "difference": difference, "waiting": waiting}
        self._data["differences"].append(entry)
        self._line("[yellow]·[/yellow]" if waiting else "[red]✗[/red]", kind, what, difference)

    def end(self, agreed: str) -> None:
        if self._as_json:
            click.echo(json.dumps(self._data))
        differences = self._data["differences"]
        waiting = sum(entry["waiting"] for entry in differences)
        if not self.found:
            self._say(f"✓ {self._data['application']}: {agreed}")
            return
        self._say(
            f"\n{len(self._data['given_up'])} given up, {len(differences)} differences, of which "
            f"{waiting} (·) the application would still repair itself"
        )

    def _line(self, mark: str, kind: str, what: str, words: str) -> None:
        self._say(f"  {mark} {kind:<10} {wrapped(escape(f'{what}: {words}'), 15)}")

    def _say(self, text: str) -> None:
        self._console.print(text)


def _wishes(given: dict[str, Any]) -> tuple[Wishes, str]:
    """What was given, or else what the remembered connection says. Raises SidecarError."""
    target = _as_remembered(given["application"])
    remembered = [
        found for found in connections.known() if not target or found.application == target
    ]
    if not target and len(remembered) != 1:
        names = ", ".join(found.application for found in remembered)
        raise SidecarError(
            f"several applications are connected; name one with --application: {names}"
            if remembered
            else "no application named; give its checkout: --application ~/mitxonline"
        )
    known = remembered[-1] if remembered else None
    return (
        Wishes(
            target=target or (known.application if known else ""),
            edition=given["edition"] or (known.edition if known else ""),
            manage=given["manage"] or (known.manage if known else ""),
            env_file=given["env_file"] or (known.env_file if known else ""),
        ),
        given["lms_url"],
    )


def _as_remembered(target: str) -> str:
    """A folder in the form in which connections are kept."""
    if not target or urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


@contextmanager
def _told() -> Iterator[None]:
    """Errors as a line and an exit code; a traceback is for what nobody expected."""
    try:
        yield
    except (SidecarError, ConnectError, connections.ConnectionsError) as error:
        click.echo(f"✗ {printable(str(error))}", err=True)
        sys.exit(NOT_ASKED)
    except LmsError as error:
        click.echo(f"✗ The LMS could not be asked: {printable(error.message)}", err=True)
        sys.exit(NOT_ASKED)
