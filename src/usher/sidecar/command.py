"""``usher drift`` and ``usher reconcile``: parse, call one function, show the summary."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar
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
from usher.contract.failures import is_storable
from usher.contract.options import COMMAND_LINE, PATH, PATH_OR_ADDRESS
from usher.contract.terminal import end_line_of_interrupt, printable, wrap
from usher.sidecar import reconcile as reconciling
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.console.server import LOOPBACK, serve_pages
from usher.sidecar.drift import DEFAULT_KINDS, KINDS, drift
from usher.sidecar.errors import SidecarError, explain
from usher.sidecar.given_up import find_given_up
from usher.sidecar.output import MAX_SHOWN, DriftOutput, ReconcileOutput
from usher.sidecar.process import Agent
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.session import CONCURRENCY, Session, open_application, open_session
from usher.sidecar.summary import FAILED, SKIPPED, Summary
from usher.sidecar.watch_output import WatchOutput
from usher.sidecar.watch_state import WatchState
from usher.sidecar.watching import Stopping, watch

T = TypeVar("T")
P = ParamSpec("P")
#: Seconds within which a signal is noticed while waiting for the LMS's rate limit.
_STOP_CHECK_SECONDS = 0.2
_MAX_PORT = 65535
_PORT = re.compile("[0-9]{1,5}")
#: Errors of writing to an open file: its disk is full, or broken.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _application_options(command: Callable[..., Any]) -> Callable[..., Any]:
    # Both commands have these options. Reversed: click shows the option that is added last first.
    for option in reversed(
        [
            click.option(
                "--application",
                type=PATH_OR_ADDRESS,
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
                type=COMMAND_LINE,
                default="",
                metavar="COMMAND",
                help="Command that runs the application's manage.py, such as 'kubectl exec -i "
                "deploy/web -- ./manage.py'.",
            ),
            click.option(
                "--env-file",
                type=PATH,
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


def _refuse_empty(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """The value of an option, '' if it was not given. An empty value, such as of an unset variable
    in a script, is refused: it must not mean everything. A value that is not UTF-8 is refused: no
    row of the application has it."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; leave the option out if you mean all.")
    if value is not None and not is_storable(value):
        raise click.BadParameter("it is not UTF-8; type it again in a UTF-8 terminal.")
    return value or ""


def _refuse_empty_host(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The value of an option with a host. Servers listen on all addresses if it is empty, so an
    empty value is refused."""
    if not value.strip():
        raise click.BadParameter(f"it is empty; leave the option out for {LOOPBACK}.")
    return value


@click.command("drift")
@_application_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    metavar="KIND",
    help="Compare only this kind; may be repeated. By default: "
    f"{', '.join(repr(kind) for kind in DEFAULT_KINDS)}. Only if named: "
    f"{', '.join(repr(kind) for kind in KINDS if kind not in DEFAULT_KINDS)}.",
)
@click.option(
    "--given-up",
    "only_given_up",
    is_flag=True,
    help="List only learners on whom the application gave up; send no requests to the LMS.",
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help=f"Show all differences, not only the first {MAX_SHOWN} of each kind.",
)
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
        _warn_if_without_run_modes(options, kinds, output.console)
        with _open_application(options, output.console) as (checkout, adapter, agent):
            output.set_application(adapter.title)
            for row in find_given_up(agent, adapter):
                output.print_given_up(row.kind, row.what, row.reason)
            if not only_given_up:
                session = open_session(checkout, adapter, agent, lms_url)
                for difference in drift(session, kinds or DEFAULT_KINDS):
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
    metavar="KIND",
    help="Reconcile only this kind; may be repeated. By default: 'account', with tokens, "
    "'enrollment', 'run' and 'run-mode'. The others only if named: "
    "'missing' creates enrollments that the LMS lost, 'mode' corrects modes in the LMS, 'adopt' "
    "records enrollments made in the LMS, 'unenrollment' ends enrollments that ended here, and "
    "'profile' sends changed names and e-mail addresses.",
)
@click.option(
    "--user",
    metavar="NAME",
    callback=_refuse_empty,
    help="Only this learner, by username or e-mail address.",
)
@click.option(
    "--run",
    metavar="KEY",
    callback=_refuse_empty,
    help="Only this course run and enrollments in it. Accounts are not restricted.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=CONCURRENCY,
    show_default=True,
    help="Requests at a time to an LMS without the batch API.",
)
@click.option("--dry-run", is_flag=True, help="Show how much is due and change nothing.")
@click.option(
    "--watch", "watching", is_flag=True, help="Check the application every second until stopped."
)
@click.option(
    "--console",
    "with_console",
    is_flag=True,
    help="With --watch: serve pages on this machine; the printed link works once.",
)
@click.option(
    "--console-port",
    type=click.IntRange(0, _MAX_PORT),
    default=0,
    help="Port of the pages. [default: a free one]",
)
@click.option(
    "--console-host",
    default=LOOPBACK,
    callback=_refuse_empty_host,
    metavar="ADDRESS",
    show_default=True,
    help="Address that the pages listen on. Use 0.0.0.0 in a container whose port is published on "
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
    scope = reconciling.PassScope(kinds=kinds or reconciling.DEFAULT_KINDS, user=user, run=run)
    if (with_console or metrics_at) and (dry_run or not watching):
        raise click.UsageError("--console and --metrics need --watch.")
    watch_output = WatchOutput(as_json)
    output = watch_output if watching and not dry_run else ReconcileOutput(as_json)
    with _reporting_errors(output):
        options, lms_url = _options_of(arguments)
        if _warn_if_without_run_modes(options, kinds, output.console):
            scope = replace(scope, kinds=[kind for kind in kinds if kind != RUN_MODE])
            if not scope.kinds:
                if dry_run:
                    output.print_dry_run({})
                else:
                    output.print_summary(Summary())
                return
        if watching and not dry_run:
            console_address = (console_host, console_port) if with_console else None
            with _serve(console_address, metrics_at, output) as state:
                _watch(options, lms_url, scope, concurrency, watch_output, state)
            return
        with _open_application(options, output.console) as (checkout, adapter, agent):
            reconciling.check_scope(agent, adapter, scope)
            due = reconciling.count_due(agent, adapter, scope)
            session = open_session(checkout, adapter, agent, lms_url, concurrency)
            if dry_run:
                due |= reconciling.count_compared(session, scope)
                output.print_due(adapter.title, due)
                output.print_dry_run(due)
                return
            output.print_due(adapter.title, due)
            exit_code = _reconcile_once(session, scope, due, output)
    if exit_code:
        sys.exit(exit_code)


def _watch(
    options: ApplicationOptions,
    lms_url: str,
    scope: reconciling.PassScope,
    concurrency: int,
    output: WatchOutput,
    state: WatchState,
) -> None:
    """Reconciles until SIGTERM or SIGINT, then prints the results since the start. Continues if its
    output can't be written, such as to a full disk: learners wait for accounts, and not for the
    log."""
    has_warned = False

    def losing_lines(report: Callable[P, None]) -> Callable[P, None]:
        def call(*arguments: P.args, **more: P.kwargs) -> None:
            nonlocal has_warned
            try:
                report(*arguments, **more)
            except OSError as error:
                if not _is_write_error(error):
                    raise
                if not has_warned:
                    has_warned = True
                    _print_write_error(error, "Watching continues, and lines are lost.")

        return call

    @losing_lines
    def print_end() -> None:
        output.print_state(state)
        output.print_stopped()

    losing_lines(output.print_line)(f"starting manage.py of {options.target}")
    watch(
        options,
        lms_url,
        scope,
        concurrency=concurrency,
        on_start=losing_lines(output.print_start),
        on_pass=losing_lines(output.print_summary),
        on_trouble=losing_lines(output.print_trouble),
        state=state,
        stopping=Stopping(lambda: _exit_now(print_end, exit_code=0)),
    )
    print_end()


def _reconcile_once(
    session: Session, scope: reconciling.PassScope, due: dict[str, int], output: ReconcileOutput
) -> int:
    """Reconciles and prints the results. Returns the exit code. due: kind → number of rows to
    process, if known. Raises SidecarError, LmsError, after it has printed the results so far."""
    agent, adapter = session.agent, session.adapter
    summary = Summary(waits_for_locks=True, notify=output.console.print)
    reason_not_eligible = (
        reconciling.why_not_eligible(agent, adapter, scope.user) if scope.user else ""
    )
    stopping = Stopping(
        lambda: _exit_now(lambda: output.print_interrupted(summary), exit_code=exits.INTERRUPTED)
    )
    try:
        with stopping.handle_signals(), output.progress(due) as show_progress:
            _reconcile(session, scope, summary, stopping, show_progress)
    except (SidecarError, LmsError):
        output.print_results_before_error(summary)
        raise
    if stopping.is_requested:
        output.print_interrupted(summary)
        return exits.INTERRUPTED
    if reason_not_eligible:
        summary.add(ACCOUNT, SKIPPED, scope.user, reason_not_eligible)
    else:
        summary.new = reconciling.count_new(agent, adapter, scope)
    summary.waiting = reconciling.count_waiting(agent, adapter, scope)
    output.print_summary(summary)
    if summary.total(FAILED):
        output.print_line(
            "failed rows are still due: run this again; `usher doctor` finds the cause"
        )
    return 0 if summary.succeeded else exits.FAILED


def _exit_now(report: Callable[[], None], exit_code: int) -> None:
    """Calls ``report``, then ends this process as a kill would, even if a batch is in progress."""
    try:
        report()
        sys.stdout.flush()
    finally:
        os._exit(exit_code)


def _warn_if_without_run_modes(
    options: ApplicationOptions, kinds: Sequence[str], console: Console
) -> bool:
    """Prints a line if the operator named the modes of runs although the application has none.
    Returns whether the line was printed."""
    edition = recognise(options).edition if RUN_MODE in kinds else None
    if edition is None or adapter_of(edition.name).run_modes is not None:
        return False
    console.print(f"{edition.title} keeps no modes of course runs: --kind {RUN_MODE} does nothing")
    return True


@contextmanager
def _open_application(
    options: ApplicationOptions, console: Console
) -> Iterator[tuple[Checkout, Adapter, Agent]]:
    """As ``open_application``. Shows on a terminal that the application is starting, which may take
    minutes."""
    with ExitStack() as stack:
        starting = f"starting manage.py of {escape(printable(options.target))}"
        with console.status(starting) if console.is_terminal else nullcontext():
            application = stack.enter_context(open_application(options))
        yield application


@contextmanager
def _serve(
    console_address: tuple[str, int] | None, metrics_address: str, output: ReconcileOutput
) -> Iterator[WatchState]:
    """Serves pages and metrics if requested. Yields the state that they show. console_address: host
    and port of the pages; None for no pages. metrics_address: the value of ``--metrics``; '' for no
    metrics."""
    with ExitStack() as stack:
        pass_metrics = None
        if metrics_address:
            from usher.sidecar import metrics

            host, _, port = metrics_address.rpartition(":")
            if not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
                raise click.UsageError(f"--metrics: {metrics_address!r} is not [HOST:]PORT.")
            pass_metrics, host = metrics.Metrics(), host.strip("[]") or LOOPBACK
            metrics_port = stack.enter_context(
                _listening(metrics_address, metrics.serve_metrics(pass_metrics, host, int(port)))
            )
            output.print_line(f"metrics at http://{host}:{metrics_port}/metrics")
        state = WatchState(pass_metrics)
        if console_address is not None:
            host, console_port = console_address
            if not _is_loopback(host):
                output.print_line(
                    f"! the pages listen on {host}, beyond this machine's loopback: anybody who "
                    "sees the link can open them, and nothing is encrypted"
                )
            pages = serve_pages(state, console_port, output.print_link, host=host)
            stack.enter_context(_listening(f"{host}:{console_port}", pages))
        yield state


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _listening(address_text: str, server: AbstractContextManager[T]) -> Iterator[T]:
    """Runs the server within the block. Raises SidecarError if the address can't be listened on."""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(server)
        except (OSError, UnicodeError) as error:
            is_wrong_host = isinstance(error, (socket.gaierror, UnicodeError))
            is_wrong_host |= getattr(error, "errno", None) == errno.EADDRNOTAVAIL
            advice = "Name an address of this machine." if is_wrong_host else "Choose another port."
            reason = getattr(error, "strerror", None) or error
            raise SidecarError(f"Can't listen on {address_text}: {reason}. {advice}") from error
        yield address


def _reconcile(
    session: Session,
    scope: reconciling.PassScope,
    summary: Summary,
    stopping: Stopping,
    show_progress: Callable[[Summary], None],
) -> None:
    """Calls ``reconcile_to_the_end``, which ends early after a signal. Shows the progress after
    each batch."""
    with stopping.stop_between_batches() as stop_if_requested:

        def after_batch(so_far: Summary) -> None:
            show_progress(so_far)
            stop_if_requested(so_far)

        def wait(seconds: float) -> None:
            summary.notify(f"the LMS limits the rate of requests; continuing in {seconds:.0f} s")
            until = time.monotonic() + seconds
            while (remaining := until - time.monotonic()) > 0:
                stop_if_requested(summary)
                time.sleep(min(remaining, _STOP_CHECK_SECONDS))

        summary.progress = after_batch
        reconciling.reconcile_to_the_end(session, scope, summary, wait)


def _options_of(arguments: dict[str, Any]) -> tuple[ApplicationOptions, str]:
    """Returns the options, completed from the remembered connection, and the value of
    ``--lms-url``. Raises SidecarError."""
    if arguments["env_file"] and not Path(arguments["env_file"]).expanduser().exists():
        raise SidecarError(f"--env-file: {arguments['env_file']} does not exist.")
    target = _as_stored_target(arguments["application"])
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
    latest = remembered[-1] if remembered else None
    return (
        ApplicationOptions(
            target=target or (latest.application if latest else ""),
            edition=arguments["edition"] or (latest.edition if latest else ""),
            manage=arguments["manage"] or (latest.manage if latest else ""),
            env_file=arguments["env_file"] or (latest.env_file if latest else ""),
        ),
        arguments["lms_url"],
    )


def _as_stored_target(target: str) -> str:
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
        _exit_with_error(output, str(error))
    except LmsError as error:
        _exit_with_error(output, f"The LMS could not be asked: {explain(error)}")
    except click.ClickException:
        raise  # click prints it
    except BrokenPipeError:
        raise  # click ends the command: nobody reads its output
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, as FAILED
        if isinstance(error, OSError) and _is_write_error(error):
            _exit_without_output(error)
        output.print_error(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        sys.exit(exits.NOT_RUN)


def _is_write_error(error: OSError) -> bool:
    """Whether an open file, such as the command's output, can't be written."""
    return error.filename is None and error.errno in _WRITE_ERRORS


def _print_write_error(error: OSError, what_next: str) -> None:
    """Prints that the command's output can't be written, to standard error, unless that is on the
    same disk."""
    reason = (
        f"The command's output can't be written: {error.strerror}. Free some space, or send the "
        f"output elsewhere. {what_next}"
    )
    with suppress(OSError):
        click.echo(f"✗ {wrap(reason, indent=2)}", err=True)


def _exit_without_output(error: OSError) -> NoReturn:
    """Ends the command after an error of writing its output."""
    _print_write_error(error, "What was done before is recorded; the next run continues from here.")
    # A normal exit would write the lost output once more, and fail with another exit code.
    os._exit(exits.NOT_RUN)


def _exit_with_error(output: ReconcileOutput | DriftOutput, reason: str) -> NoReturn:
    click.echo(f"✗ {wrap(reason, indent=2)}", err=True)
    try:
        output.print_error(reason)
    except OSError as error:
        if not _is_write_error(error):
            raise
        _exit_without_output(error)
    sys.exit(exits.NOT_RUN)
