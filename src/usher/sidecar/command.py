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
from usher.sidecar.watch_state import PassMetrics, WatchState
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
    """Returns the value of an option, '' if it was not given. Refuses an empty value, such as of an
    unset variable in a script: it must not mean everything. Also refuses a value that is not UTF-8:
    no row of the application has it."""
    if value is None:
        return ""
    if not value.strip():
        raise click.BadParameter("it is empty; leave the option out if you mean all.")
    if not is_storable(value):
        raise click.BadParameter("it is not UTF-8; type it again in a UTF-8 terminal.")
    return value


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
        options = _application_options_of(arguments)
        lms_url = arguments["lms_url"]
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
    must_watch = watching and not dry_run
    if (with_console or metrics_at) and not must_watch:
        raise click.UsageError("--console and --metrics need --watch.")
    scope = reconciling.PassScope(kinds=kinds or reconciling.DEFAULT_KINDS, user=user, run=run)
    watch_output = WatchOutput(as_json)
    output = watch_output if must_watch else ReconcileOutput(as_json)
    with _reporting_errors(output):
        options = _application_options_of(arguments)
        lms_url = arguments["lms_url"]

        # An application without modes of runs: reconcile the other named kinds, if there are any.
        if _warn_if_without_run_modes(options, kinds, output.console):
            scope = replace(scope, kinds=[kind for kind in kinds if kind != RUN_MODE])
            if not scope.kinds:
                if dry_run:
                    output.print_dry_run({})
                else:
                    output.print_summary(Summary())
                return

        if must_watch:
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
            if dry_run:
                output.print_dry_run(due)
                return
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

    def despite_write_errors(print_lines: Callable[P, None]) -> Callable[P, None]:
        """Wraps a function that prints: if the output can't be written, its lines are lost. Warns
        the first time."""

        def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
            nonlocal has_warned
            try:
                print_lines(*args, **kwargs)
            except OSError as error:
                if not _is_write_error(error):
                    raise
                if not has_warned:
                    has_warned = True
                    _print_write_error(error, "Watching continues, and lines are lost.")

        return wrapper

    @despite_write_errors
    def print_end() -> None:
        output.print_state(state)
        output.print_stopped()

    despite_write_errors(output.print_line)(f"starting manage.py of {options.target}")
    watch(
        options,
        lms_url,
        scope,
        concurrency=concurrency,
        on_start=despite_write_errors(output.print_start),
        on_pass=despite_write_errors(output.print_summary),
        on_trouble=despite_write_errors(output.print_trouble),
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
    reason_not_eligible = ""
    if scope.user:
        reason_not_eligible = reconciling.why_not_eligible(agent, adapter, scope.user)

    def print_interrupted() -> None:
        output.print_interrupted(summary)

    stopping = Stopping(lambda: _exit_now(print_interrupted, exit_code=exits.INTERRUPTED))
    try:
        with stopping.handle_signals(), output.progress(due) as show_progress:
            _reconcile(session, scope, summary, stopping, show_progress)
    except (SidecarError, LmsError):
        output.print_results_before_error(summary)
        raise
    if stopping.is_requested:
        print_interrupted()
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
    if RUN_MODE not in kinds:
        return False
    edition = recognise(options).edition
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
    text = f"starting manage.py of {escape(printable(options.target))}"
    status = console.status(text) if console.is_terminal else nullcontext()
    with ExitStack() as stack:
        with status:  # ends when the application has started
            application = stack.enter_context(open_application(options))
        yield application


@contextmanager
def _serve(
    console_address: tuple[str, int] | None, metrics_address: str, output: ReconcileOutput
) -> Iterator[WatchState]:
    """Serves pages and metrics if requested, until the block ends. Yields the state that they show.
    console_address: host and port of the pages; None for no pages. metrics_address: the value of
    ``--metrics``; '' for no metrics. Raises SidecarError if an address can't be listened on, and
    UsageError if the value of ``--metrics`` is not one."""
    with ExitStack() as stack:
        metrics = None
        if metrics_address:
            metrics = stack.enter_context(_serve_metrics(metrics_address, output))
        state = WatchState(metrics)
        if console_address is not None:
            host, port = console_address
            if not _is_loopback(host):
                output.print_line(
                    f"! the pages listen on {host}, beyond this machine's loopback: anybody who "
                    "sees the link can open them, and nothing is encrypted"
                )
            pages = serve_pages(state, port, output.print_link, host=host)
            stack.enter_context(_listening(f"{host}:{port}", pages))
        yield state


@contextmanager
def _serve_metrics(address_text: str, output: ReconcileOutput) -> Iterator[PassMetrics]:
    # Imported here because only --metrics needs prometheus_client.
    from usher.sidecar.metrics import Metrics, serve_metrics

    host, _, port = address_text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
        raise click.UsageError(f"--metrics: {address_text!r} is not [HOST:]PORT.")
    host = host.strip("[]") or LOOPBACK
    metrics = Metrics()
    with _listening(address_text, serve_metrics(metrics, host, int(port))) as listening_port:
        output.print_line(f"metrics at http://{host}:{listening_port}/metrics")
        yield metrics


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
            is_unknown_host = isinstance(error, (socket.gaierror, UnicodeError))
            is_other_machine = getattr(error, "errno", None) == errno.EADDRNOTAVAIL
            if is_unknown_host or is_other_machine:
                advice = "Name an address of this machine."
            else:
                advice = "Choose another port."
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

        def after_batch(summary: Summary) -> None:
            show_progress(summary)
            stop_if_requested(summary)

        def wait_for_rate_limit(seconds: float) -> None:
            summary.notify(f"the LMS limits the rate of requests; continuing in {seconds:.0f} s")
            until = time.monotonic() + seconds
            while (remaining := until - time.monotonic()) > 0:
                stop_if_requested(summary)
                time.sleep(min(remaining, _STOP_CHECK_SECONDS))

        summary.progress = after_batch
        reconciling.reconcile_to_the_end(session, scope, summary, wait_for_rate_limit)


def _application_options_of(arguments: dict[str, Any]) -> ApplicationOptions:
    """Returns the options of the command line, completed from the remembered connection. Raises
    SidecarError if no application is named and not exactly one is connected, or if the .env named
    with ``--env-file`` does not exist."""
    env_file = arguments["env_file"]
    if env_file and not Path(env_file).expanduser().exists():
        raise SidecarError(f"--env-file: {env_file} does not exist.")
    target = _as_stored_target(arguments["application"])
    remembered = _remembered_connection(target)
    if remembered is None:
        return ApplicationOptions(
            target=target,
            edition=arguments["edition"] or "",
            manage=arguments["manage"],
            env_file=env_file,
        )
    return ApplicationOptions(
        target=remembered.application,
        edition=arguments["edition"] or remembered.edition,
        manage=arguments["manage"] or remembered.manage,
        env_file=env_file or remembered.env_file,
    )


def _remembered_connection(target: str) -> connections.Connection | None:
    """Returns the latest connection of this application, or None. target: '' for the only
    application that is connected. Raises SidecarError if none or several are."""
    remembered = connections.read_all()
    if target:
        of_target = [connection for connection in remembered if connection.application == target]
        return of_target[-1] if of_target else None
    if not remembered:
        raise SidecarError(
            "no application named; give its checkout: --application ~/mitxonline. In your own "
            "Django project, run `python manage.py reconcile` or `python manage.py drift`."
        )
    if len(remembered) > 1:
        names = ", ".join(connection.application for connection in remembered)
        raise SidecarError(
            f"several applications are connected; name one with --application: {names}"
        )
    return remembered[0]


def _as_stored_target(target: str) -> str:
    """Returns an application's folder or URL in the form in which connections are stored."""
    if not target or urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


@contextmanager
def _reporting_errors(output: ReconcileOutput | DriftOutput) -> Iterator[None]:
    """Prints an expected error as one line, any other with its traceback, and exits. With
    ``--json``, also prints the error as a JSON object on standard output."""
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
