"""``usher connect`` and ``usher disconnect``: parse, call one function, show the outcome."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import click

from usher.connect import checks, development_server, manual
from usher.connect.application.checkout import ApplicationOptions, check_exists, recognise
from usher.connect.application.example import make_env
from usher.connect.application.target import TargetApplication
from usher.connect.connecting import Connecting, Options
from usher.connect.disconnecting import disconnection_for
from usher.connect.discovery import (
    CommandOptions,
    LmsContext,
    advice_about_kept_lms,
    are_known,
    connected_applications,
    connection_of,
    find_connected,
    find_lms,
    find_targets,
    moved_connections,
    remember,
    warn_of_moves,
    with_defaults,
    with_earlier_lms,
    with_earlier_options,
)
from usher.connect.errors import ConnectError, NeedsPerson, Refused
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.instance import MODES
from usher.connect.plan import Check, Plan, apply
from usher.connect.saved_state import SavedDescription
from usher.connect.view import View
from usher.contract import connections, exits
from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFileError
from usher.contract.oauth import BACKENDS
from usher.contract.options import COMMAND_LINE, PATH, PATH_OR_ADDRESS
from usher.contract.terminal import end_line_of_interrupt

#: Shown at the end of the commands' help.
_REPEATED = (
    "With several --application options, give each option that describes an application (such as "
    "--edition, --name, --manage and --env-file) once for each application, in the same order."
)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns a decorator that gives a command these options, in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_common_options = _options(
    click.option(
        "--lms",
        type=click.Choice([connections.TUTOR, connections.EMBEDDED]),
        help="How the LMS is run: by Tutor, or as an embedded LMS on this machine. "
        "[default: as in the last connection, else tutor]",
    ),
    click.option(
        "--lms-home", type=PATH, default="", metavar="DIRECTORY", help="Folder of the embedded LMS."
    ),
    click.option(
        "--tutor",
        default="",
        metavar="FILE",
        help="Tutor's executable. [default: the one on PATH]",
    ),
    click.option(
        "--tutor-root",
        type=PATH,
        default="",
        metavar="DIRECTORY",
        help="Tutor's root; needed if there are several.",
    ),
    click.option(
        "--mode", type=click.Choice(list(MODES)), help="The mode in which Tutor runs the LMS."
    ),
    click.option(
        "--application",
        "targets",
        type=PATH_OR_ADDRESS,
        multiple=True,
        metavar="PATH_OR_URL",
        help="Checkout or URL of the application. May be repeated.",
    ),
    click.option(
        "--edition",
        multiple=True,
        type=click.Choice(sorted(EDITIONS)),
        help="The application's edition, if Usher can't detect it.",
    ),
    click.option(
        "--name", multiple=True, metavar="NAME", help="The application's name in the LMS."
    ),
    click.option(
        "--manage",
        type=COMMAND_LINE,
        multiple=True,
        metavar="COMMAND",
        help="Command that runs the application's manage.py, such as 'venv/bin/python manage.py'.",
    ),
    click.option(
        "--env-file",
        type=PATH,
        multiple=True,
        metavar="FILE",
        help="The application's .env, if not in its checkout.",
    ),
    click.option("--lms-url", default="", metavar="URL", help="The LMS's address for browsers."),
    click.option(
        "--lms-server-url",
        default="",
        metavar="URL",
        help="The LMS's address for the application's server.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan and change nothing."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


@click.command(epilog=_REPEATED)
@_common_options
@click.option(
    "--backend",
    multiple=True,
    type=click.Choice(sorted(BACKENDS)),
    help="Sign-in backend of the LMS for the application.",
)
@click.option("--url", multiple=True, metavar="URL", help="The application's address for browsers.")
@click.option(
    "--server-url",
    multiple=True,
    metavar="URL",
    help="The application's address for the LMS's containers.",
)
@click.option(
    "--superuser",
    is_flag=True,
    help="Also make the application's superuser a superuser in the LMS.",
)
@click.option("--build", is_flag=True, help="Build the LMS's image if it has no Usher.")
@click.option("--no-recreate", is_flag=True, help="Do not re-create the application's containers.")
@click.option(
    "--no-prove",
    is_flag=True,
    help="Do not sign in a test learner, and do not run the application's sync and repair "
    "commands.",
)
def connect(as_json: bool, dry_run: bool, yes: bool, **arguments: Any) -> None:
    """Connect an application to Open edX run by Tutor, or to an embedded LMS.

    Examines the application and the LMS, shows what it would change and why, then asks. With
    --lms embedded it also creates the LMS, if there is none. You can interrupt it and run it again
    at any time; it changes only what differs.
    """
    view = View(as_json)
    with _exit_code_of_errors(view):
        # Find the LMS and the applications.
        options_given = _options_of(arguments)
        applications = options_given.applications or connected_applications()
        if not applications:
            raise Refused("no application named; give its checkout: --application ~/mitxonline")
        command_options = _with_earlier_options(options_given, applications)
        context = find_lms(with_earlier_lms(command_options))
        confirm = functools.partial(_confirms, yes=yes, as_json=as_json)
        for application in command_options.applications:
            if change := make_env(recognise(application), dry_run=dry_run, confirm=confirm):
                view.print_preparation(change, dry_run=dry_run)
        targets = find_targets(command_options, context, dry_run=dry_run)
        warn_of_moves(targets, context)
        # Plan, and show the plan.
        choices = Options(
            build=lambda: arguments["build"] or (_can_ask(yes, as_json) and _confirms_build()),
            recreate=not arguments["no_recreate"],
            superuser=arguments["superuser"],
        )
        connecting = Connecting(context.lms, targets, context.addresses, choices, context.runner)
        plan = _with_warnings(connecting.plan(context.facts, running=context.running), context)
        view.print_plan(plan, dry_run=dry_run)
        if dry_run:
            return
        # Change what differs, and remember the connections.
        if plan.due:
            _confirm(yes, as_json)
            for target, _ in targets:
                remember(target, context)
            # Saved by an interrupted disconnection, which is obsolete now.
            SavedDescription(context.lms.folder).delete()
            apply(plan, view)
        for replaced in moved_connections(targets, context):
            connections.forget(*replaced.key)
        for target, backend in targets:
            connections.remember(connection_of(target, backend, context))
        # Check the connections.
        connected = [target for target, _ in targets]
        results = _check_and_show(connected, context, view, prove=not arguments["no_prove"])
        advice = _start_advice(connected, results)
        if advice:
            raise NeedsPerson(step="start", message=advice)


def _with_earlier_options(
    options_given: CommandOptions, applications: list[ApplicationOptions]
) -> CommandOptions:
    """Returns the options for these applications, completed with those of their earlier
    connections. Raises Refused if the checkout of an application does not exist."""
    completed = [with_earlier_options(application) for application in applications]
    for application in completed:
        check_exists(application)
    return replace(options_given, applications=completed)


def _check_and_show(
    targets: list[TargetApplication], context: LmsContext, view: View, *, prove: bool
) -> list[Check]:
    """Checks the connection of each application, shows the results and returns them. With
    ``prove``, and if no check fails, saves the time of the proof, which ``usher status`` shows.

    During the checks, connect runs the development server of each application that isn't served.
    prove: as for ``checks.run``.
    """
    results: list[Check] = []
    with ExitStack() as servers:
        started_commands = {}
        for target in targets:
            server = development_server.running(
                target,
                for_containers=context.in_containers,
                announce=functools.partial(view.print_server, target),
            )
            if started := servers.enter_context(server):
                started_commands[target.name] = started.command
        for target in targets:
            view.print_heading(f"Checking {target.checkout.title}")
            for check in checks.run(context.lms, target, context.addresses, prove=prove):
                results.append(check)
                view.print_check(check)
        if prove and not view.failed:
            for target in targets:
                connections.mark_verified((str(context.lms.folder), target.name))
        manual_steps = manual.sort_steps(
            context.lms, targets, context.addresses, view.changed, started_commands
        )
    view.print_connected(targets, context.addresses, manual_steps)
    return results


@click.command(epilog=_REPEATED)
@_common_options
@click.option(
    "--purge",
    is_flag=True,
    help="Also delete secrets and all other records and files that Usher created.",
)
def disconnect(as_json: bool, dry_run: bool, yes: bool, purge: bool, **arguments: Any) -> None:
    """Remove the connection and restore the LMS's own sign-in and the application's settings.

    Without --application it disconnects all applications connected to this Tutor root.
    """
    view = View(as_json)
    with _exit_code_of_errors(view):
        # Find the LMS and the applications.
        options_given = with_defaults(_options_of(arguments))
        options_given = _with_earlier_options(options_given, options_given.applications)
        applications = options_given.applications
        try:
            context = find_lms(options_given)
        except Refused:
            if options_given.tutor or options_given.tutor_root or are_known(applications):
                raise
            whose = " of this application" if applications else ""
            view.print_nothing_to_do(
                f"no connection{whose} was made on this machine{advice_about_kept_lms(None)}"
            )
            return
        targets, names = find_connected(options_given, context)
        root = str(context.lms.folder)
        is_kept_lms = isinstance(context.lms, EmbeddedLms) and context.lms.exists
        if not names and not (purge and is_kept_lms):
            if not dry_run:
                connections.forget(root)
            view.print_nothing_to_do(
                f"no application is connected here{advice_about_kept_lms(context)}"
            )
            return
        # Plan, and show the plan.
        disconnection = disconnection_for(
            context.lms, targets, names, context.addresses, purge=purge
        )
        context.facts["applications"] = ", ".join(names) or "none is connected"
        plan = _with_warnings(disconnection.plan(context.facts, running=context.running), context)
        view.print_plan(plan, dry_run=dry_run)
        if dry_run:
            return
        # Remove the connections, and forget them.
        if plan.due:
            _confirm(yes, as_json)
            disconnection.save_description()
            apply(plan, view)
        for name in names:
            connections.forget(root, name)
        if not names:
            connections.forget(root)
        view.print_disconnected(
            names,
            disconnection.remaining(),
            own_sign_in_restored=bool(names) and disconnection.leaves_no_application,
        )


def _start_advice(targets: list[TargetApplication], checks_made: list[Check]) -> str:
    """Returns advice to start the applications that do not answer; "" if all of them answer or run
    in docker compose, or if other checks failed too.

    Connect starts containers, and the development server of an application without containers.
    Connect can't start an application whose manage.py runs through ``docker exec``, ``ssh`` or the
    like, so the operator must start this application.
    """
    failed = [check for check in checks_made if check.outcome == "failed"]
    all_in_compose = all(target.checkout.compose for target in targets)
    if all_in_compose or any(check.id != "application-answers" for check in failed):
        return ""
    if not failed:
        return ""
    fixes = "; ".join(f"{check.seen}: {check.fix}" for check in failed)
    return f"{fixes}. Then run `usher connect` again: it proves the connection"


def _with_warnings(plan: Plan, context: LmsContext) -> Plan:
    """Inserts the context's warnings before the plan's own, and returns the plan."""
    plan.warnings[:0] = context.warnings
    return plan


def _options_of(arguments: dict[str, Any]) -> CommandOptions:
    """Returns the options of the command line.

    The first value of an option such as --name is for the first --application, and so on. Raises
    Refused if an option is given more often than --application.
    """
    applications = [ApplicationOptions(target=target) for target in arguments["targets"]]
    for name in ("edition", "backend", "name", "manage", "env_file", "url", "server_url"):
        values = arguments.get(name, ())
        if len(values) > len(applications):
            raise Refused(f"--{name.replace('_', '-')} is given more often than --application")
        for index, value in enumerate(values):
            applications[index] = replace(applications[index], **{name: value})
    return CommandOptions(
        lms=arguments["lms"] or "",
        lms_home=arguments["lms_home"],
        tutor=arguments["tutor"],
        tutor_root=arguments["tutor_root"],
        mode=arguments["mode"] or "",
        lms_url=arguments["lms_url"],
        lms_server_url=arguments["lms_server_url"],
        applications=applications,
    )


def _confirm(yes: bool, as_json: bool) -> None:
    """Asks the operator to confirm the plan, unless ``yes``. Raises Refused."""
    if yes:
        return
    if not _can_ask(yes, as_json):
        raise Refused("there is no terminal for a confirmation; give --yes to apply the plan")
    if not click.confirm("Apply these changes?", err=True):
        raise Refused("you did not confirm")


def _confirms(question: str, *, yes: bool, as_json: bool) -> bool:
    """Whether the operator agrees: with ``--yes``, or by the answer to the question."""
    return yes or (_can_ask(yes, as_json) and click.confirm(question, err=True))


def _can_ask(yes: bool, as_json: bool) -> bool:
    """Whether questions are wanted, and somebody is at a terminal to answer them."""
    return not yes and not as_json and sys.stdin.isatty()


def _confirms_build() -> bool:
    """Whether the operator agrees that the LMS's image is built now."""
    question = (
        "        The LMS's image has no Usher yet. Build it now? It takes ten minutes to an hour"
    )
    return click.confirm(question, err=True)


@contextmanager
def _exit_code_of_errors(view: View) -> Iterator[None]:
    """Turns an error, an interrupt or the end of a command into a message and an exit code."""
    code, message = exits.DONE, ""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):  # click.Abort: at a question
        end_line_of_interrupt()
        code, message = exits.INTERRUPTED, "interrupted; nothing was changed"
        if view.has_begun:
            message = "interrupted; completed steps are kept. Run the command again"
    except NeedsPerson as error:
        code, message = exits.UNFINISHED, f"Left to you: {error}"
    except (Refused, EnvFileError) as error:
        # An EnvFileError while a step writes is reported by plan.apply as StepFailed.
        changes = "Nothing else was changed." if view.has_preparations else "Nothing was changed."
        code, message = exits.NOT_RUN, f"{error}\n{changes}"
    except connections.ConnectionsError as error:
        has_changed = view.has_preparations or view.changed
        code = exits.FAILED if has_changed else exits.NOT_RUN
        message = str(error)
    except OSError as error:  # while Usher reads or writes files of its own
        changes = "The earlier steps are done" if view.has_begun else "Nothing was changed"
        code = exits.FAILED if view.has_begun else exits.NOT_RUN
        message = f"{error}\n{changes}; run the command again afterwards."
    except ConnectError as error:
        message = f"{error}\nThe earlier steps are done; run the command again to continue."
        code = exits.FAILED
    if message:
        view.print_error(message)
    else:
        view.flush(ok=True)
        code = exits.FAILED if view.failed else exits.DONE
    if code:
        sys.exit(code)
