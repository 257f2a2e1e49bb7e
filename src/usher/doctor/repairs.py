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

#: The module is imported by this name, because it belongs to another package.
_USHER = "usher.cli.main"


@dataclass(frozen=True)
class Repair:
    """says: a description, shown before the repair. apply: makes the repair; raises NotKnownError
    if that is impossible."""

    says: str
    apply: Callable[[Context], None]


def repairs_for(report: Report) -> dict[str, Repair]:
    """Returns the repairs for the failures in this report, by name."""
    names = dict.fromkeys(line.finding.repair for line in report.root_causes)
    return {name: REPAIRS[name] for name in names if name in REPAIRS}


def _restrict_env(context: Context) -> None:
    path = context.application.env_file
    if path is None:
        raise NotKnownError("there is no .env")
    path.chmod(0o600)


def _provision(context: Context) -> None:
    """Provisions with the secrets of the demo, of ``usher dev``, or of Tutor's configuration."""
    if context.demo_home is not None:
        home = str(context.demo_home)
        Command((sys.executable, "-m", _USHER, "demo")).output("--provision", "--home", home)
    elif context.dev_home is not None:
        folder = str(context.application.manage.folder) if context.application.manage else "."
        Command((sys.executable, "-m", _USHER, "dev")).output(
            folder, "--provision", "--home", str(context.dev_home)
        )
    elif context.tutor.given:
        context.tutor.command("do").output("usher-provision", seconds=600)
    else:
        raise NotKnownError("the secrets are not known here: run usher connect")


def _shell(context: Context, script: str) -> None:
    manage: Command | None = context.application.manage
    if manage is None:
        raise NotKnownError("the application's manage.py is not known: give --application")
    manage.output("shell", stdin=script)


def _relax_pkce(context: Context) -> None:
    _shell(context, _RELAX_PKCE.format(client_id=context.lms_client_id))


def _register_redirect(context: Context) -> None:
    address = lms_redirect_uri(context.lms.url, context.backend)
    _shell(context, _ADD_REDIRECT.format(client_id=context.lms_client_id, address=address))


_RELAX_PKCE = """
from oauth2_provider.models import get_application_model
from usher.application.provider.models import ClientPolicy
application = get_application_model().objects.get(client_id={client_id!r})
ClientPolicy.objects.update_or_create(application=application, defaults={{"pkce_required": False}})
"""
_ADD_REDIRECT = """
from oauth2_provider.models import get_application_model
application = get_application_model().objects.get(client_id={client_id!r})
known = application.redirect_uris.split()
if {address!r} not in known:
    application.redirect_uris = " ".join([*known, {address!r}])
    application.save(update_fields=["redirect_uris"])
"""

REPAIRS = {
    "restrict-env": Repair("chmod 600 the application's .env", _restrict_env),
    "provision": Repair(
        "provision again: creates and corrects the records of the LMS and the application",
        _provision,
    ),
    "relax-pkce": Repair("switch PKCE off for the LMS's client at the application", _relax_pkce),
    "redirect-uri": Repair("register the LMS's address for its client", _register_redirect),
}
