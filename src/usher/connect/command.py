"""``usher connect`` and ``usher disconnect``: parse, call one function, show the outcome."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from usher.connect import checks, manual, shown
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.example import make_env
from usher.connect.application.side import Side
from usher.connect.connecting import Connecting, Options
from usher.connect.disconnecting import disconnecting_of
from usher.connect.errors import ConnectError, NeedsPerson, Refused
from usher.connect.openedx.instance import MODES
from usher.connect.opening import (
    CommandOptions,
    Opened,
    all_before,
    as_before,
    connection_of,
    moved,
    open_lms,
    open_sides,
    remember,
    reopen_sides,
    warn_of_moves,
    with_defaults,
    with_earlier_options,
)
from usher.connect.plan import Check, Plan, apply
from usher.connect.saved_state import SavedDescription
from usher.contract import connections
from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFileError
from usher.contract.oauth import BACKENDS

#: Exit codes: 1 something failed, 2 refused and nothing changed, 3 a manual step is needed.
FAILED, REFUSED, UNFINISHED = 1, 2, 3

_REPEATED = (
    "With several --application options, repeat --edition, --name, --manage, --env-file and those "
    "about one application once for each, in the same order."
)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_common_options = _options(
    click.option(
        "--lms",
        type=click.Choice([connections.TUTOR, connections.EMBEDDED]),
        help="What runs the LMS: Tutor, or an embedded LMS on this machine, which `usher connect` "
        "creates if necessary [default: as in the last connection, else tutor].",
    ),
    click.option("--lms-home", default="", help="Folder of the embedded LMS."),
    click.option("--tutor", default="", help="Tutor's executable [default: the one on PATH]."),
    click.option("--tutor-root", default="", help="Tutor's root; needed when there are several."),
    click.option("--mode", type=click.Choice(list(MODES)), help="How Tutor runs the platform."),
    click.option(
        "--application",
        "targets",
        multiple=True,
        metavar="PATH_OR_URL",
        help="Checkout or URL of the application. May be repeated.",
    ),
    click.option(
        "--edition",
        multiple=True,
        type=click.Choice(sorted(EDITIONS)),
        help="Which application it is, if connect can't detect it.",
    ),
    click.option("--name", multiple=True, help="The application's name in the LMS."),
    click.option(
        "--manage",
        multiple=True,
        metavar="COMMAND",
        help="Command that runs its manage.py, such as 'venv/bin/python manage.py'.",
    ),
    click.option("--env-file", multiple=True, help="Path of its .env."),
    click.option("--lms-url", default="", help="The LMS's address for browsers."),
    click.option(
        "--lms-server-url", default="", help="The LMS's address for the application's server."
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
@click.option("--url", multiple=True, help="The application's address for browsers.")
@click.option("--server-url", multiple=True, help="Its address for the LMS's containers.")
@click.option("--superuser", is_flag=True, help="Also make its superuser a superuser in the LMS.")
@click.option("--build", is_flag=True, help="Build the LMS's image if it has no Usher.")
@click.option("--no-recreate", is_flag=True, help="Do not re-create its containers.")
@click.option("--no-prove", is_flag=True, help="Do not run its sync and repair commands.")
def connect(as_json: bool, dry_run: bool, yes: bool, **given: Any) -> None:
    """Connect an application to Open edX run by Tutor, or to an embedded LMS.

    Examines both, shows what it would change and why, then asks. You can interrupt it and run it
    again at any time; it changes only what differs.
    """
    view = shown.View(as_json)
    with _ending(view):
        asked = _options_of(given)
        applications = [with_earlier_options(each) for each in asked.applications or all_before()]
        if not applications:
            raise Refused("no application named; give its checkout: --application ~/mitxonline")
        asked = replace(asked, applications=applications)
        opened = open_lms(as_before(asked))
        for each in asked.applications:
            may = functools.partial(_may, yes=yes, as_json=as_json)
            if made := make_env(recognise(each), dry_run=dry_run, may=may):
                view.prepared(made, dry_run=dry_run)
        sides = open_sides(asked, opened, dry_run=dry_run)
        warn_of_moves(sides, opened)
        options = Options(
            build=lambda: given["build"] or (_can_ask(yes, as_json) and _offer_to_build()),
            recreate=not given["no_recreate"],
            superuser=given["superuser"],
        )
        connecting = Connecting(opened.lms, sides, opened.addresses, options, opened.runner)
        plan = _prepared(connecting.plan(opened.facts, running=opened.running), opened)
        view.plan(plan, dry_run=dry_run)
        if dry_run:
            return
        if plan.due:
            _confirm(yes, as_json)
            for side, _ in sides:
                remember(side, opened)
            SavedDescription(opened.lms.place).forget()
            apply(plan, view)
        for before in moved(sides, opened):
            connections.forget(*before.key)
        for side, backend in sides:
            connections.remember(connection_of(side, backend, opened))
        found: list[Check] = []
        for side, _ in sides:
            view.heading(f"Checking {side.checkout.title}")
            for check in checks.run(
                opened.lms, side, opened.addresses, commands=not given["no_prove"]
            ):
                found.append(check)
                view.check(check)
        if not view.failed and not given["no_prove"]:
            for side, _ in sides:
                connections.verified((str(opened.lms.place), side.name))
        only = [side for side, _ in sides]
        view.end(
            only, opened.addresses, manual.of(opened.lms, only, opened.addresses, view.changed)
        )
        if remains := _to_be_started(only, found):
            raise NeedsPerson("start", remains)


@click.command(epilog=_REPEATED)
@_common_options
@click.option("--purge", is_flag=True, help="Also delete secrets and everything else Usher made.")
def disconnect(as_json: bool, dry_run: bool, yes: bool, purge: bool, **given: Any) -> None:
    """Remove the connection and restore the LMS's own sign-in and the application's settings.

    Without --application it disconnects all applications connected to this Tutor root.
    """
    view = shown.View(as_json)
    with _ending(view):
        asked = with_defaults(_options_of(given))
        applications = [with_earlier_options(each) for each in asked.applications]
        asked = replace(asked, applications=applications)
        opened = open_lms(asked)
        sides, names = reopen_sides(asked, opened)
        root = str(opened.lms.place)
        if not names:
            if not dry_run:
                connections.forget(root)
            view.nothing("no application is connected here")
            return
        disconnecting = disconnecting_of(opened.lms, sides, names, opened.addresses, purge=purge)
        opened.facts["applications"] = ", ".join(names)
        plan = _prepared(disconnecting.plan(opened.facts, running=opened.running), opened)
        view.plan(plan, dry_run=dry_run)
        if dry_run:
            return
        if plan.due:
            _confirm(yes, as_json)
            disconnecting.keep()
            apply(plan, view)
        for name in names:
            connections.forget(root, name)
        view.undone(names, last=disconnecting.last)


def _to_be_started(sides: list[Side], found: list[Check]) -> str:
    """Returns what the operator must start before the connection can be verified; "" for nothing.

    Connect starts containers itself. An application without containers can only be started by its
    developer, and only after its ``.env`` was written.
    """
    failed = [check for check in found if check.outcome == "failed"]
    by_hand = [side.checkout.title for side in sides if not side.checkout.compose]
    if not by_hand or any(check.id != "application-answers" for check in failed):
        return ""
    todo = [f"{check.seen}: {check.fix}" for check in failed]
    return "; ".join(todo) and (
        "; ".join(todo) + ". Then run usher connect again: it proves the connection"
    )


def _prepared(plan: Plan, opened: Opened) -> Plan:
    plan.warnings[:0] = opened.warnings
    return plan


def _options_of(given: dict[str, Any]) -> CommandOptions:
    targets = list(given["targets"])
    fields = ("edition", "backend", "name", "manage", "env_file", "url", "server_url")
    for name in fields:
        if len(given.get(name, ())) > max(len(targets), 0):
            raise Refused(f"--{name.replace('_', '-')} is given more often than --application")
    applications = [
        ApplicationOptions(
            target=target,
            **{key: values[i] for key in fields if i < len(values := given.get(key, ()))},
        )
        for i, target in enumerate(targets)
    ]
    return CommandOptions(
        lms=given["lms"] or "",
        lms_home=given["lms_home"],
        tutor=given["tutor"],
        tutor_root=given["tutor_root"],
        mode=given["mode"] or "",
        lms_url=given["lms_url"],
        lms_server_url=given["lms_server_url"],
        applications=applications,
    )


def _confirm(yes: bool, as_json: bool) -> None:
    if yes:
        return
    if not _can_ask(yes, as_json):
        raise Refused("connect can't ask for confirmation here; give --yes to apply the plan")
    click.confirm("Apply these changes?", abort=True, err=True)


def _may(question: str, *, yes: bool, as_json: bool) -> bool:
    return yes or (_can_ask(yes, as_json) and click.confirm(question, err=True))


def _can_ask(yes: bool, as_json: bool) -> bool:
    return not yes and not as_json and sys.stdin.isatty()


def _offer_to_build() -> bool:
    words = (
        "        The LMS's image has no Usher yet. Build it now? It takes ten minutes to an hour"
    )
    return click.confirm(words, err=True)


@contextmanager
def _ending(view: shown.View) -> Iterator[None]:
    """Turns every outcome of a command into a message and an exit code."""
    code, message = 0, ""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        code, message = 130, "interrupted; completed steps are kept. Run the command again"
    except NeedsPerson as error:
        code, message = UNFINISHED, f"Remains for you: {error}"
    except (Refused, EnvFileError) as error:
        # An EnvFileError while a step writes is reported by plan.apply as StepFailed.
        code, message = REFUSED, f"{error}\nNothing was changed."
    except connections.ConnectionsError as error:
        code, message = FAILED, str(error)
    except ConnectError as error:
        message = f"{error}\nThe steps before it are done; run the command again to continue."
        code = FAILED
    if message:
        view.stopped(message)
    else:
        view.flush(True)
        code = FAILED if view.failed else 0
    if code:
        sys.exit(code)
