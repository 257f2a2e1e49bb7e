"""The repairs of ``--fix``. Each can be repeated safely, and makes only the change in its
description."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from usher.contract.oauth import lms_redirect_uri
from usher.doctor.context import Context
from usher.doctor.facts.commands import Command
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.runner import Report

#: The module of the ``usher`` command. It is named, not imported, because it belongs to another
#: package.
_USHER_COMMAND = "usher.cli.main"


@dataclass(frozen=True)
class Repair:
    """description: shown before the repair. apply: makes the repair; raises NotKnownError if it
    can't be made."""

    description: str
    apply: Callable[[Context], None]


def repairs_for(report: Report) -> dict[str, Repair]:
    """Returns the repairs for the failures and warnings in this report, by name."""
    names = dict.fromkeys(line.finding.repair for line in report.root_causes)
    return {name: REPAIRS[name] for name in names if name in REPAIRS}


def _make_env_file_private(context: Context) -> None:
    """Gives the ``.env`` mode 0600. Raises NotKnownError without one."""
    path = context.application.env_file
    if path is None:
        raise NotKnownError("there is no .env")
    path.chmod(0o600)


def _provision(context: Context) -> None:
    """Provisions with the secrets of the demo, of ``usher dev``, or of Tutor's configuration.
    Raises NotKnownError if none of these is there."""
    if context.demo_home is not None:
        demo = Command((sys.executable, "-m", _USHER_COMMAND, "demo"))
        demo.output("--provision", "--home", str(context.demo_home))
    elif context.dev_home is not None:
        folder = str(context.application.manage.folder) if context.application.manage else "."
        dev = Command((sys.executable, "-m", _USHER_COMMAND, "dev"))
        dev.output(folder, "--provision", "--home", str(context.dev_home))
    elif context.tutor.has_root:
        # The job starts containers, which takes minutes on a slow machine.
        context.tutor.command("do").output("usher-provision", seconds=600)
    else:
        raise NotKnownError("the secrets are not known here: run `usher connect`")


def _run_in_shell(context: Context, script: str) -> None:
    """Runs a script with the application's ``manage.py shell``. Raises NotKnownError."""
    manage: Command | None = context.application.manage
    if manage is None:
        raise NotKnownError("the application's manage.py is not known: give --application")
    manage.output("shell", stdin=script)


def _relax_pkce(context: Context) -> None:
    _run_in_shell(context, _RELAX_PKCE_SCRIPT.format(client_id=context.lms_client_id))


def _register_redirect(context: Context) -> None:
    address = lms_redirect_uri(context.lms.url, context.backend)
    _run_in_shell(
        context, _REGISTER_REDIRECT_SCRIPT.format(client_id=context.lms_client_id, address=address)
    )


_RELAX_PKCE_SCRIPT = """
from oauth2_provider.models import get_application_model
from usher.application.provider.models import ClientPolicy
application = get_application_model().objects.get(client_id={client_id!r})
ClientPolicy.objects.update_or_create(application=application, defaults={{"pkce_required": False}})
"""
_REGISTER_REDIRECT_SCRIPT = """
from oauth2_provider.models import get_application_model
application = get_application_model().objects.get(client_id={client_id!r})
registered = application.redirect_uris.split()
if {address!r} not in registered:
    application.redirect_uris = " ".join([*registered, {address!r}])
    application.save(update_fields=["redirect_uris"])
"""

#: ``Finding.repair`` → the repair.
REPAIRS = {
    "restrict-env": Repair("chmod 600 the application's .env", _make_env_file_private),
    "provision": Repair(
        "provision again: creates and corrects the records of the LMS and the application",
        _provision,
    ),
    "relax-pkce": Repair("switch PKCE off for the LMS's client at the application", _relax_pkce),
    "redirect-uri": Repair("register the LMS's redirect URI for its client", _register_redirect),
}
