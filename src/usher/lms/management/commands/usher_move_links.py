"""``manage.py lms usher_move_links --from X --to Y``"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usher.lms.accounts.moving import move_links
from usher.lms.connections.models import ConnectedApplication
from usher.lms.errors import UsherLmsError
from usher.lms.management import arguments


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Move learners' links from a sign-in backend that is no longer used to the backend of a "
        "connected application, so that learners who signed in before keep their accounts. It "
        "can't be undone: moved links look like those that had the new name before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from",
            dest="old",
            required=True,
            type=arguments.name,
            help="the former backend's name",
        )
        parser.add_argument(
            "--to", dest="new", required=True, type=arguments.name, help="the name in use"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="count the links; change nothing"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        old, new = options["old"], options["new"]
        application_using_old = ConnectedApplication.objects.filter(backend=old).first()
        if old == new:
            raise CommandError("Both names are the same: nothing to move.")
        if application_using_old is not None:
            raise CommandError(
                f"{old} is the backend of the connected application "
                f"{application_using_old.name}: its learners' links stay. Connect that application "
                "with another backend first."
            )
        try:
            result = move_links(old, new, dry_run=options["dry_run"])
        except UsherLmsError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(vars(result)))
