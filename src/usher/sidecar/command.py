"""``usher drift`` and ``usher reconcile``: parse, call one function, show the outcome."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from usher.client.errors import LmsError
from usher.connect.application.checkout import ApplicationOptions, Checkout, recognise
from usher.connect.errors import ConnectError
from usher.contract import connections
from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFileError
from usher.contract.terminal import printable, wrapped
from usher.sidecar import reconcile as reconciling
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.comparing import ADOPT, MISSING
from usher.sidecar.console.server import HOST as LOOPBACK
from usher.sidecar.console.server import serving
from usher.sidecar.drift import KINDS, USUAL, drift
from usher.sidecar.errors import SidecarError, explained
from usher.sidecar.given_up import given_up
from usher.sidecar.opening import CONCURRENCY, Opened, opened_application, with_lms
from usher.sidecar.outcome import FAILED, LEFT, REFUSED, Outcome
from usher.sidecar.process import Agent
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.watched import Watched
from usher.sidecar.watching import Stopping, watch

T = TypeVar("T")
#: Exit codes: 1 something differs or was refused, 2 the command could not run.
DIFFERS, NOT_ASKED = 1, 2
#: Exit code of shells for Ctrl-C.
INTERRUPTED = 130
#: Differences and refusals of one kind that are shown without ``--all``.
_SHOWN = 10
#: Seconds between two lines about progress if the output is not a terminal.
_LINE_EVERY = 30.0
#: Seconds within which a signal is noticed while waiting for the LMS's rate limit.
_STOP_NOTICED = 0.2


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
@click.option("--all", "show_all", is_flag=True, help=f"Show all, not {_SHOWN} of a kind.")
def drift_command(
    kinds: tuple[str, ...], only_given_up: bool, show_all: bool, as_json: bool, **given: Any
) -> None:
    """Compare an application with the LMS and change nothing.

    Lists the learners whom the application gave up, with its reasons, and the differences between
    the application and the LMS. Exit code 1 if there are any.
    """
    show = _Shown(as_json, show_all)
    with _told(show):
        wishes, lms_url = _wishes(given)
        _lacks_modes(wishes, kinds, show.console)
        with _opening(wishes, show.console) as (checkout, adapter, agent):
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
    help="Only this kind. Accounts include tokens. Accounts, enrollments and runs are "
    "reconciled by default, every other kind only if named.",
)
@click.option("--user", default="", metavar="NAME", help="Only this username or e-mail address.")
@click.option("--run", default="", metavar="KEY", help="Only enrollments in this course run.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=CONCURRENCY,
    show_default=True,
    help="Requests at a time to an LMS without the batch API.",
)
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
    "--console-host",
    default=LOOPBACK,
    metavar="ADDRESS",
    show_default=True,
    help="Address that the pages listen on: 0.0.0.0 in a container whose port is published on "
    "127.0.0.1 of its host.",
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
    concurrency: int,
    dry_run: bool,
    watching: bool,
    with_console: bool,
    console_port: int,
    console_host: str,
    metrics_at: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Create the LMS accounts, tokens and enrollments that an application needs and lacks.

    Reads from the application's tables what is due, and writes the results back. Also copies
    titles and dates of course runs from the LMS. Orders, payments and messages are never changed.
    It can be stopped and run again at any time.
    """
    scope = reconciling.Scope(kinds or reconciling.USUAL, user, run)
    if (with_console or metrics_at) and (dry_run or not watching):
        raise click.UsageError("--console and --metrics go with --watch.")
    show = _Progress(as_json)
    with _told(show):
        wishes, lms_url = _wishes(given)
        if _lacks_modes(wishes, kinds, show.console):
            scope = replace(scope, kinds=[kind for kind in kinds if kind != RUN_MODE])
            if not scope.kinds:
                show.dry_run({}) if dry_run else show.end(Outcome())
                return
        if watching and not dry_run:
            console_at = (console_host, console_port) if with_console else None
            with _served(console_at, metrics_at, show) as watched:

                def ended() -> None:
                    show.watched(watched)
                    show.stopped()

                stopping = Stopping(lambda: _end_at_once(ended, 0))
                watch(
                    wishes,
                    lms_url,
                    scope,
                    concurrency=concurrency,
                    began=show.watching,
                    after=show.end,
                    troubled=show.trouble,
                    watched=watched,
                    stopping=stopping,
                )
            ended()
            return
        with _opening(wishes, show.console) as (checkout, adapter, agent):
            reconciling.check(agent, adapter, scope)
            due = reconciling.count_due(agent, adapter, scope)
            sides = with_lms(checkout, adapter, agent, lms_url, concurrency)
            if dry_run:
                due |= reconciling.count_compared(sides, scope)
                show.due(adapter.title, due)
                show.dry_run(due)
                return
            show.due(adapter.title, due)
            outcome = Outcome(awaits_locks=True, says=show.console.print)
            why = reconciling.why_not_taken(agent, adapter, user) if user else ""
            stopping = Stopping(
                lambda: _end_at_once(lambda: show.interrupted(outcome), INTERRUPTED)
            )
            try:
                with stopping.listening(), show.going(due) as progress:
                    _reconcile(sides, scope, outcome, stopping, progress)
            except (SidecarError, LmsError):
                show.done_before(outcome)
                raise
            if stopping.is_set:
                show.interrupted(outcome)
            else:
                if why:
                    outcome.add(ACCOUNT, LEFT, user, why)
                outcome.waiting = reconciling.count_waiting(agent, adapter, scope)
                show.end(outcome)
    if stopping.is_set:
        sys.exit(INTERRUPTED)
    if not outcome.ok:
        sys.exit(DIFFERS)


def _end_at_once(told: Callable[[], None], exit_code: int) -> None:
    """Ends this process although a batch is in progress, as a kill would. Prints that first."""
    try:
        told()
        sys.stdout.flush()
    finally:
        os._exit(exit_code)


def _lacks_modes(wishes: ApplicationOptions, kinds: Sequence[str], console: Console) -> bool:
    """Whether the operator named the modes of runs and the application has none; prints that."""
    edition = recognise(wishes).edition if RUN_MODE in kinds else None
    if edition is None or adapter_of(edition.name).run_modes is not None:
        return False
    console.print(f"{edition.title} keeps no modes of course runs: --kind {RUN_MODE} does nothing")
    return True


@contextmanager
def _opening(
    wishes: ApplicationOptions, console: Console
) -> Iterator[tuple[Checkout, Adapter, Agent]]:
    """Shows on a terminal that the application is starting, which may take minutes."""
    with ExitStack() as stack:
        starting = f"starting manage.py of {escape(printable(wishes.target))}"
        with console.status(starting) if console.is_terminal else nullcontext():
            opened = stack.enter_context(opened_application(wishes))
        yield opened


@contextmanager
def _served(
    console_at: tuple[str, int] | None, metrics_at: str, show: _Progress
) -> Iterator[Watched]:
    """Serves pages and metrics if requested. console_at: address and port; None for no pages."""
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
        if console_at is not None:
            host, at = console_at
            if not _is_loopback(host):
                show.serves(
                    f"! the pages listen on {host}, beyond this machine's loopback: anybody who "
                    "sees the link gets in, and it travels unencrypted"
                )
            pages = serving(watched, at, show.link, host)
            stack.enter_context(_listening(f"{host}:{at}", pages))
        yield watched


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _reconcile(
    sides: Opened,
    scope: reconciling.Scope,
    outcome: Outcome,
    stopping: Stopping,
    progress: Callable[[Outcome], None],
) -> None:
    with stopping.batches() as stop_if_asked:

        def after_batch(so_far: Outcome) -> None:
            progress(so_far)
            stop_if_asked(so_far)

        def wait(seconds: float) -> None:
            outcome.says(f"the LMS limits the rate of requests; continuing in {seconds:.0f} s")
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                stop_if_asked(outcome)
                time.sleep(min(left, _STOP_NOTICED))

        outcome.progress = after_batch
        reconciling.reconcile_to_the_end(sides, scope, outcome, wait)


class _Progress:
    """Prints lines for people; with ``as_json`` a JSON object for each event."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._before = Outcome()
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)

    def due(self, title: str, numbers: dict[str, int]) -> None:
        if numbers:
            told = ", ".join(counted(number, kind) for kind, number in numbers.items())
            self.console.print(f"{title}: {told} due")

    def dry_run(self, numbers: dict[str, int]) -> None:
        if self._as_json:
            click.echo(json.dumps({"due": numbers}))

    def watching(self, title: str, lms_url: str) -> None:
        self.console.print(f"{title}: watching; the LMS is {printable(lms_url)}")

    @contextmanager
    def going(self, due: dict[str, int]) -> Iterator[Callable[[Outcome], None]]:
        """due: kind → number of rows to process, if known."""
        if not self.console.is_terminal:
            yield self._lines(due)
            return
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(24),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            tasks = {
                kind: bar.add_task(kind, total=number or None, told=told_of(0, number))
                for kind, number in due.items()
                if number
            }

            def told(outcome: Outcome) -> None:
                for kind, numbers in outcome.as_data()["kinds"].items():
                    done = sum(numbers.values())
                    if kind not in tasks:
                        tasks[kind] = bar.add_task(kind, total=None, told="")
                    words = told_of(done, due.get(kind, 0), numbers[REFUSED], numbers[FAILED])
                    bar.update(tasks[kind], completed=done, told=words)

            yield told

    def _lines(self, due: dict[str, int]) -> Callable[[Outcome], None]:
        """Prints a line from time to time, for logs."""
        last = time.monotonic()

        def told(outcome: Outcome) -> None:
            nonlocal last
            if time.monotonic() - last < _LINE_EVERY:
                return
            last = time.monotonic()
            for kind, numbers in outcome.as_data()["kinds"].items():
                words = told_of(
                    sum(numbers.values()), due.get(kind, 0), numbers[REFUSED], numbers[FAILED]
                )
                self.console.print(f"  {kind:<12} {words}")

        return told

    def end(self, outcome: Outcome) -> None:
        if self._as_json:
            click.echo(json.dumps(outcome.as_data()))
        self._results(outcome)

    def done_before(self, outcome: Outcome) -> None:
        """Shows what was done before the error; ``failed`` then shows the error."""
        self._before = outcome
        if outcome.numbers:
            self._results(outcome)

    def interrupted(self, outcome: Outcome) -> None:
        if self._as_json:
            click.echo(json.dumps(outcome.as_data() | {"ok": False, "error": "interrupted"}))
        if outcome.numbers:
            self._results(outcome)
        self.stopped()

    def failed(self, reason: str) -> None:
        """Shows the error that ended the command."""
        if self._as_json:
            click.echo(json.dumps(self._before.as_data() | {"ok": False, "error": reason}))

    def watched(self, seen: Watched) -> None:
        """Shows what was done since the start."""
        done = seen.as_outcome()
        self.console.print("since the start:" + ("" if done.numbers else " nothing was done"))
        if done.numbers:
            self._numbers(done)

    def _results(self, outcome: Outcome) -> None:
        shown: Counter[tuple[str, str]] = Counter()
        for entry in outcome.reasons:
            which = entry["result"], entry["kind"]
            shown[which] += 1
            if shown[which] <= _SHOWN:
                mark = "·" if entry["result"] == LEFT else "✗"
                request = f" [request {entry['request_id']}]" if entry["request_id"] else ""
                words = wrapped(escape(f"{entry['what']}: {entry['reason']}{request}"), 26)
                self.console.print(f"  {mark} {entry['result']:<8} {entry['kind']:<12} {words}")
        for (result, kind), number in shown.items():
            if number > _SHOWN:
                more = f"and {number - _SHOWN} more {result}; --json lists all"
                self.console.print(f"    {'':<8} {kind:<12} {more}")
        self._numbers(outcome)

    def _numbers(self, outcome: Outcome) -> None:
        for kind, numbers in outcome.as_data()["kinds"].items():
            told = ", ".join(f"{number} {result}" for result, number in numbers.items() if number)
            mark = "✗" if numbers[REFUSED] or numbers[FAILED] else "✓"
            self.console.print(f"{mark} {kind:<12} {told}")
        for kind, number in outcome.waiting.items():
            whose = "its learner's account" if number == 1 else "their learners' accounts"
            self.console.print(f"· {kind:<12} {number} waiting for {whose}")
        if not outcome.numbers and not outcome.waiting:
            self.console.print("✓ nothing to do")

    def link(self, address: str) -> None:
        """Prints the link to standard error only, because it gives access to the pages."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"console  {address}  (good once; then the browser is let in until this ends)"
        )

    def serves(self, what: str) -> None:
        self.console.print(what)

    def stopped(self) -> None:
        self.console.print("stopped; the next run continues from here")

    def trouble(self, reason: str, wait: float) -> None:
        words = wrapped(escape(reason.strip().rstrip(".")), 2)
        self.console.print(f"✗ {words}; trying again in {wait:.0f} s")


def counted(number: int, kind: str) -> str:
    """``1 account``, ``2 accounts``."""
    if kind in (MISSING, ADOPT):
        return f"{number} to {kind}" if kind == ADOPT else f"{number} {kind}"
    return f"{number} {kind}" + ("" if number == 1 else "s")


def told_of(done: int, total: int, refused: int = 0, failed: int = 0) -> str:
    told = f"{done} of {max(total, done)}" if total else f"{done}"
    told += f", {refused} refused" if refused else ""
    return told + (f", {failed} failed" if failed else "")


class _Shown:
    def __init__(self, as_json: bool, show_all: bool) -> None:
        self._as_json, self._show_all = as_json, show_all
        self.console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        self._found: Counter[tuple[str, str]] = Counter()
        self._data: dict[str, Any] = {"application": "", "given_up": [], "differences": []}

    @property
    def found(self) -> int:
        return len(self._data["given_up"]) + len(self._data["differences"])

    def application(self, title: str) -> None:
        self._data["application"] = title

    def given_up(self, kind: str, what: str, reason: str) -> None:
        if not self._data["given_up"]:
            self._say(f"Given up by {self._data['application']} itself:")
        self._data["given_up"].append({"kind": kind, "what": what, "reason": reason})
        self._line("given_up", "[red]✗[/red]", kind, what, reason)

    def difference(self, kind: str, what: str, difference: str, waiting: bool) -> None:
        if not self._data["differences"]:
            self._hidden("given_up")
            self._say(("\n" if self._data["given_up"] else "") + "Different in the LMS:")
        entry = {"kind": kind, "what": what, "difference": difference, "waiting": waiting}
        self._data["differences"].append(entry)
        section = "waiting" if waiting else "different"
        mark = "[yellow]·[/yellow]" if waiting else "[red]✗[/red]"
        self._line(section, mark, kind, what, difference)

    def end(self, agreed: str) -> None:
        if self._as_json:
            click.echo(json.dumps(self._data))
        differences = self._data["differences"]
        waiting = sum(entry["waiting"] for entry in differences)
        if not self.found:
            self._say(f"✓ {self._data['application']}: {agreed}")
            return
        self._hidden("given_up", "waiting", "different")
        given_up = len(self._data["given_up"])
        next_step = f"; usher reconcile works on the {waiting} marked ·" if waiting else ""
        self._say(f"\n{given_up} given up, {counted(len(differences), 'difference')}{next_step}")

    def failed(self, reason: str) -> None:
        """Shows the error that ended the command, and what was found before."""
        if self._as_json:
            click.echo(json.dumps(self._data | {"ok": False, "error": reason}))

    def _line(self, section: str, mark: str, kind: str, what: str, words: str) -> None:
        self._found[section, kind] += 1
        if self._show_all or self._found[section, kind] <= _SHOWN:
            self._say(f"  {mark} {kind:<11} {wrapped(escape(f'{what}: {words}'), 16)}")

    def _hidden(self, *sections: str) -> None:
        """Prints how many of the same kind were not shown."""
        for (section, kind), number in list(self._found.items()):
            if section in sections and number > _SHOWN and not self._show_all:
                mark = "·" if section == "waiting" else "✗"
                self._say(f"  {mark} {kind:<11} and {number - _SHOWN} more; --all shows them")
                del self._found[section, kind]

    def _say(self, text: str) -> None:
        self.console.print(text)


def _wishes(given: dict[str, Any]) -> tuple[ApplicationOptions, str]:
    """Returns the options, completed from the remembered connection. Raises SidecarError."""
    if given["env_file"] and not Path(given["env_file"]).expanduser().exists():
        raise SidecarError(f"--env-file: {given['env_file']} does not exist.")
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
        ApplicationOptions(
            target=target or (known.application if known else ""),
            edition=given["edition"] or (known.edition if known else ""),
            manage=given["manage"] or (known.manage if known else ""),
            env_file=given["env_file"] or (known.env_file if known else ""),
        ),
        given["lms_url"],
    )


def _as_remembered(target: str) -> str:
    """Returns a folder in the form in which connections are kept."""
    if not target or urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


@contextmanager
def _told(show: _Progress | _Shown) -> Iterator[None]:
    """Turns expected errors into a line and an exit code; prints the traceback of others. With
    ``--json`` it also prints each as the one object on standard output."""
    try:
        yield
    except KeyboardInterrupt:
        show.failed("interrupted")
        click.echo("stopped", err=True)
        sys.exit(INTERRUPTED)
    except (SidecarError, ConnectError, EnvFileError, connections.ConnectionsError) as error:
        _end_with(show, str(error))
    except LmsError as error:
        _end_with(show, f"The LMS could not be asked: {explained(error)}")
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - a traceback's own exit code is that of DIFFERS
        show.failed(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        sys.exit(NOT_ASKED)


def _end_with(show: _Progress | _Shown, reason: str) -> NoReturn:
    show.failed(reason)
    click.echo(f"✗ {printable(reason)}", err=True)
    sys.exit(NOT_ASKED)
