"""``manage.py lms usher_link --username X --application NAME``"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usher.lms.accounts import services
from usher.lms.connections.models import ConnectedApplication
from usher.lms.errors import UsherLmsError
from usher.lms.events.wake import wait_for_sender
from usher.lms.management import arguments


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Link an application's learner to the existing LMS account with the same username. From "
        "then on the learner signs in to that account, and everybody else loses access to it. "
        "First make sure that both are the same person."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--username",
            required=True,
            type=arguments.name,
            nargs="+",
            action="extend",
            metavar="NAME",
            help="the learner's username; several separated by spaces",
        )
        parser.add_argument(
            "--application",
            required=True,
            type=arguments.name,
            help="the application's name in this LMS",
        )
        parser.add_argument(
            "--unlink", action="store_true", help="remove the link; the account stays"
        )
        parser.add_argument(
            "--account",
            type=arguments.name,
            default="",
            help="with --unlink: username of the linked LMS account, if it differs from the "
            "learner's",
        )
        parser.add_argument(
            "--move",
            action="store_true",
            help="if the learner is linked to another LMS account, move the link; the learner "
            "loses access to that account",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        application = ConnectedApplication.objects.filter(name=options["application"]).first()
        if application is None:
            connected = (
                ", ".join(ConnectedApplication.objects.values_list("name", flat=True)) or "none"
            )
            raise CommandError(
                f"no application {options['application']!r} is connected, only: {connected}"
            )
        names: list[str] = options["username"]
        errors: list[str] = []
        if options["account"] and not options["unlink"]:
            raise CommandError(
                "--account needs --unlink: without --unlink, a learner is linked to the "
                "LMS account that has the learner's username"
            )
        if options["account"] and len(names) > 1:
            raise CommandError("--account allows only one --username")
        for username in names:
            try:
                outcome = self._change(username, application.backend, options)
            except UsherLmsError as error:
                errors.append(str(error) if len(names) == 1 else f"{username}: {error}")
                continue
            result = {"username": username, "backend": application.backend, "outcome": outcome}
            self.stdout.write(json.dumps(result))
        wait_for_sender()  # so that the application is notified now
        if errors:
            raise CommandError("\n".join(errors))

    def _change(self, username: str, backend: str, options: Any) -> str:
        """Link or unlink the learner; return the outcome for the output."""
        if options["unlink"]:
            was_linked = services.unlink_learner(username, backend, account=options["account"])
            return "unlinked" if was_linked else "unchanged"
        is_new_link = services.link_learner(username, backend, move=options["move"])
        return "linked" if is_new_link else "unchanged"
