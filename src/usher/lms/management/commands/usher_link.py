"""``manage.py lms usher_link --username X --application NAME``"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usher.lms.accounts import services
from usher.lms.connections.models import ConnectedApplication
from usher.lms.errors import UsherLmsError


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Decide that the learner of this name at an application owns the LMS account of the same "
        "name, which was there before. From then on that learner signs in to it. Make sure that "
        "both are the same person: this gives the account away."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--username", required=True, help="the learner's username")
        parser.add_argument("--application", required=True, help="its name in this LMS")
        parser.add_argument("--unlink", action="store_true", help="undo it; the account stays")
        parser.add_argument(
            "--account",
            default="",
            help="with --unlink: the LMS account that the learner is linked to, where it has "
            "another name than the learner",
        )
        parser.add_argument(
            "--move",
            action="store_true",
            help="also when the learner signs in to another account now: that access ends",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        application = ConnectedApplication.objects.filter(name=options["application"]).first()
        if application is None:
            known = ", ".join(ConnectedApplication.objects.values_list("name", flat=True)) or "none"
            raise CommandError(
                f"no application {options['application']!r} is connected, only: {known}"
            )
        username, backend = options["username"], application.backend
        if options["account"] and not options["unlink"]:
            raise CommandError(
                "--account goes with --unlink only: a learner is linked to the account of the same "
                "name, which --username names"
            )
        try:
            if options["unlink"]:
                changed = services.unlink(username, backend, account=options["account"])
            else:
                changed = services.link(username, backend, move=options["move"])
        except UsherLmsError as error:
            raise CommandError(str(error)) from error
        done = "unlinked" if options["unlink"] else "linked"
        outcome = {
            "username": username,
            "backend": backend,
            "outcome": done if changed else "unchanged",
        }
        self.stdout.write(json.dumps(outcome))
