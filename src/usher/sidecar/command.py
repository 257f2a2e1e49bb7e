"""``usher drift`` and ``usher reconcile``: parse, call one function, show the summary."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape

from usher.client.errors import LmsError
from usher.connect.application.checkout import ApplicationOptions, Checkout, recognise
from usher.connect.errors import ConnectError
from usher.contract import connections, exits
from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFileError
from usher.contract.terminal import end_line_of_interrupt, printable, wrap
from usher.sidecar import reconcile as reconciling
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.console.server import HOST as LOOPBACK
from usher.sidecar.console.server import serving
from usher.sidecar.drift import KINDS, USUAL, drift
from usher.sidecar.errors import SidecarError, explain
from usher.sidecar.given_up import find_given_up
from usher.sidecar.output import MAX_SHOWN, DriftOutput, ReconcileOutput
from usher.sidecar.process import Agent
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.session import CONCURRENCY, Session, open_application, open_session
from usher.sidecar.summary import SKIPPED, Summary
from usher.sidecar.watch_output import WatchOutput
from usher.sidecar.watch_state import WatchState
from usher.sidecar.watching import Stopping, watch

T = TypeVar("T")
#: Seconds within which a signal is noticed while waiting for the LMS's rate limit.
_STOP_CHECK_SECONDS = 0.2


def _application_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option(
                "--application",
                default="",
                metavar="PATH_OR_URL",
                help="Checkout or URL of MITx Online or MIT xPro. [default: the one connected]",
            ),
            click.option(
                "--edition",
                type=click.Choice(sorted(EDITIONS)),
                help="The application's edition, if Usher can't detect it.",
            ),
            click.option(
                "--manage",
                default="",
                metavar="COMMAND",
                help="Command that runs the application's manage.py, such as 'kubectl exec -i "
                "deploy/web -- ./manage.py'.",
            ),
            click.option(
                "--env-file",
                default="",
                metavar="FILE",
                help="The application's .env, if not in its checkout.",
            ),
            click.option(
                "--lms-url",
                default="",
                metavar="URL",
                help="The LMS's address from here. [default: the application's own setting]",
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
    help="Compare only this kind; may be repeated. Grades and certificates are compared only if "
    "named.",
)
@click.option(
    "--given-up",
    "only_given_up",
    is_flag=True,
    help="List only learners on whom the application gave up; send no requests to the LMS.",
)
@click.option("--all", "show_all", is_flag=True, help=f"Show all, not {MAX_SHOWN} of a kind.")
def drift_command(
    kinds: tuple[str, ...], only_given_up: bool, show_all: bool, as_json: bool, **arguments: Any
) -> None:
    """Compare an application with the LMS and change nothing.

    Lists the learners on whom the application gave up, with its reasons, and the differences
    between the application and the LMS. Exit code 1 if there are any.
    """
    output = DriftOutput(as_json, show_all)
    with _reporting_errors(output):
        options, lms_url = _options_of(arguments)
        _lacks_modes(options, kinds, output.console)
        with _open_application(options, output.console) as (checkout, adapter, agent):
            output.set_application(adapter.title)
            for learner in find_given_up(agent, adapter):
                output.print_given_up(learner.kind, learner.what, learner.reason)
            if not only_given_up:
                session = open_session(checkout, adapter, agent, lms_url)
                for difference in drift(session, kinds or USUAL):
                    output.print_difference(**asdict(difference))
        output.print_end(
            "the application gave up on nobody" if only_given_up else "nothing differs in the LMS"
        )
    if output.count:
        sys.exit(exits.FAILED)


@click.command("reconcile")
@_application_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(reconciling.KINDS),
    help="Reconcile only this kind; may be repeated. Accounts include tokens. Accounts, "
    "enrollments, runs and their modes are reconciled by default, the others only if named: "
    "'missing' creates enrollments that the LMS lost, 'mode' corrects modes in the LMS, 'adopt' "
    "records enrollments made in the LMS.",
)
@click.option(
    "--user", default="", metavar="NAME", help="Only this learner, by username or e-mail address."
)
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
    help="With --watch: serve pages on this machine; the printed link works once.",
)
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the pages. [default: a free one]",
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
    help="With --watch: serve metrics for Prometheus. [default host: 127.0.0.1]",
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
    **arguments: Any,
) -> None:
    """Create the LMS accounts, tokens and enrollments that an application needs and lacks.

    Reads from the application's tables what is due, and writes the results back. Also copies
    titles and dates of course runs from the LMS. Orders, payments and messages are never changed.
    It can be stopped and run again at any time.
    """
    scope = reconciling.PassScope(kinds or reconciling.USUAL, user, run)
    if (with_console or metrics_at) and (dry_run or not watching):
        raise click.UsageError("--console and --metrics go with --watch.")
    watch_output = WatchOutput(as_json)
    output = watch_output if watching and not dry_run else ReconcileOutput(as_json)
    with _reporting_errors(output):
        options, lms_url = _options_of(arguments)
        if _lacks_modes(options, kinds, output.console):
            scope = replace(scope, kinds=[kind for kind in kinds if kind != RUN_MODE])
            if not scope.kinds:
                output.print_dry_run({}) if dry_run else output.print_summary(Summary())
                return
        if watching and not dry_run:
            console_at = (console_host, console_port) if with_console else None
            with _serve(console_at, metrics_at, output) as state:

                def show_end() -> None:
                    output.print_state(state)
                    output.print_stopped()

                stopping = Stopping(lambda: _exit_now(show_end, 0))
                output.print_line(f"starting manage.py of {options.target}")
                watch(
                    options,
                    lms_url,
                    scope,
                    concurrency=concurrency,
                    on_start=watch_output.print_start,
                    on_pass=output.print_summary,
                    on_trouble=watch_output.print_trouble,
                    state=state,
                    stopping=stopping,
                )
            show_end()
            return
        with _open_application(options, output.console) as (checkout, adapter, agent):
            reconciling.check(agent, adapter, scope)
            due = reconciling.count_due(agent, adapter, scope)
            session = open_session(checkout, adapter, agent, lms_url, concurrency)
            if dry_run:
                due |= reconciling.count_compared(session, scope)
                output.print_due(adapter.title, due)
                output.print_dry_run(due)
                return
            output.print_due(adapter.title, due)
            summary = Summary(waits_for_locks=True, notify=output.console.print)
            why = reconciling.why_not_eligible(agent, adapter, user) if user else ""
            stopping = Stopping(
                lambda: _exit_now(lambda: output.print_interrupted(summary), exits.INTERRUPTED)
            )
            try:
                with stopping.listening(), output.progress(due) as progress:
                    _reconcile(session, scope, summary, stopping, progress)
            except (SidecarError, LmsError):
                output.print_before_error(summary)
                raise
            if stopping.is_set:
                output.print_interrupted(summary)
            else:
                if why:
                    summary.add(ACCOUNT, SKIPPED, user, why)
                else:
                    summary.new = reconciling.count_new(agent, adapter, scope)
                summary.waiting = reconciling.count_waiting(agent, adapter, scope)
                output.print_summary(summary)
    if stopping.is_set:
        sys.exit(exits.INTERRUPTED)
    if not summary.ok:
        sys.exit(exits.FAILED)


def _exit_now(report: Callable[[], None], exit_code: int) -> None:
    """Calls ``report``, then ends this process as a kill would, even if a batch is in progress."""
    try:
        report()
        sys.stdout.flush()
    finally:
        os._exit(exit_code)


def _lacks_modes(options: ApplicationOptions, kinds: Sequence[str], console: Console) -> bool:
    """Whether the operator named the modes of runs although the application has none. If so, prints
    a line."""
    edition = recognise(options).edition if RUN_MODE in kinds else None
    if edition is None or adapter_of(edition.name).run_modes is not None:
        return False
    console.print(f"{edition.title} keeps no modes of course runs: --kind {RUN_MODE} does nothing")
    return True


@contextmanager
def _open_application(
    options: ApplicationOptions, console: Console
) -> Iterator[tuple[Checkout, Adapter, Agent]]:
    """Shows on a terminal that the application is starting, which may take minutes."""
    with ExitStack() as stack:
        starting = f"starting manage.py of {escape(printable(options.target))}"
        with console.status(starting) if console.is_terminal else nullcontext():
            application = stack.enter_context(open_application(options))
        yield application


@contextmanager
def _serve(
    console_at: tuple[str, int] | None, metrics_at: str, output: ReconcileOutput
) -> Iterator[WatchState]:
    """Serves pages and metrics if requested. console_at: address and port; None for no pages."""
    with ExitStack() as stack:
        counting = None
        if metrics_at:
            from usher.sidecar import metrics

            host, _, port = metrics_at.rpartition(":")
            if not port.isascii() or not port.isdigit() or int(port) > 65535:
                raise click.UsageError(f"--metrics: {metrics_at!r} is no [HOST:]PORT.")
            counting, host = metrics.Metrics(), host.strip("[]") or LOOPBACK
            metrics_port = stack.enter_context(
                _listening(metrics_at, metrics.serving(counting, host, int(port)))
            )
            output.print_line(f"metrics at http://{host}:{metrics_port}/metrics")
        state = WatchState(counting)
        if console_at is not None:
            host, at = console_at
            if not _is_loopback(host):
                output.print_line(
                    f"! the pages listen on {host}, beyond this machine's loopback: anybody who "
                    "sees the link gets in, and it travels unencrypted"
                )
            pages = serving(state, at, output.print_link, host)
            stack.enter_context(_listening(f"{host}:{at}", pages))
        yield state


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _listening(where: str, server: AbstractContextManager[T]) -> Iterator[T]:
    with ExitStack() as stack:
        try:
            address = stack.enter_context(server)
        except OSError as error:
            raise SidecarError(
                f"{where} can't be listened on: {error.strerror or error}"
            ) from error
        yield address


def _reconcile(
    session: Session,
    scope: reconciling.PassScope,
    summary: Summary,
    stopping: Stopping,
    progress: Callable[[Summary], None],
) -> None:
    with stopping.batches() as stop_if_asked:

        def after_batch(so_far: Summary) -> None:
            progress(so_far)
            stop_if_asked(so_far)

        def wait(seconds: float) -> None:
            summary.notify(f"the LMS limits the rate of requests; continuing in {seconds:.0f} s")
            until = time.monotonic() + seconds
            while (remaining := until - time.monotonic()) > 0:
                stop_if_asked(summary)
                time.sleep(min(remaining, _STOP_CHECK_SECONDS))

        summary.progress = after_batch
        reconciling.reconcile_to_the_end(session, scope, summary, wait)


def _options_of(arguments: dict[str, Any]) -> tuple[ApplicationOptions, str]:
    """Returns the options, completed from the remembered connection, and the LMS's address. Raises
    SidecarError."""
    if arguments["env_file"] and not Path(arguments["env_file"]).expanduser().exists():
        raise SidecarError(f"--env-file: {arguments['env_file']} does not exist.")
    target = _as_stored(arguments["application"])
    remembered = [
        connection
        for connection in connections.read_all()
        if not target or connection.application == target
    ]
    if not target and len(remembered) != 1:
        names = ", ".join(connection.application for connection in remembered)
        raise SidecarError(
            f"several applications are connected; name one with --application: {names}"
            if remembered
            else "no application named; give its checkout: --application ~/mitxonline. In your own "
            "Django project, run `python manage.py reconcile` or `python manage.py drift`."
        )
    last = remembered[-1] if remembered else None
    return (
        ApplicationOptions(
            target=target or (last.application if last else ""),
            edition=arguments["edition"] or (last.edition if last else ""),
            manage=arguments["manage"] or (last.manage if last else ""),
            env_file=arguments["env_file"] or (last.env_file if last else ""),
        ),
        arguments["lms_url"],
    )


def _as_stored(target: str) -> str:
    """Returns an application's folder or URL in the form in which connections are stored."""
    if not target or urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


@contextmanager
def _reporting_errors(output: ReconcileOutput | DriftOutput) -> Iterator[None]:
    """Prints an expected error as one line, any other with its traceback, and exits. With
    ``--json``, also prints the error as the only JSON object on standard output."""
    try:
        yield
    except KeyboardInterrupt:
        end_line_of_interrupt()
        output.print_error("interrupted")
        click.echo("stopped", err=True)
        sys.exit(exits.INTERRUPTED)
    except (SidecarError, ConnectError, EnvFileError, connections.ConnectionsError) as error:
        _end_with(output, str(error))
    except LmsError as error:
        _end_with(output, f"The LMS could not be asked: {explain(error)}")
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, as FAILED
        output.print_error(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        sys.exit(exits.NOT_RUN)


def _end_with(output: ReconcileOutput | DriftOutput, reason: str) -> NoReturn:
    output.print_error(reason)
    click.echo(f"✗ {wrap(reason, 2)}", err=True)
    sys.exit(exits.NOT_RUN)
