"""``manage.py lms usher_provision --file -``"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usher.contract.provisioning import Description, DescriptionError
from usher.lms.errors import UsherLmsError
from usher.lms.provisioning import services


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Create or update the records that connect an application: service worker, token, "
        "provider record, OAuth client. Reads a JSON description from standard input or a file; "
        "changes only what differs; prints the result as JSON."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--file", required=True, help="the description; - is standard input")
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done; change nothing"
        )
        parser.add_argument(
            "--remove", action="store_true", help="remove the records that were created"
        )
        parser.add_argument(
            "--purge",
            action="store_true",
            help="with --remove: also delete accounts and provider versions, which are otherwise "
            "only disabled",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["purge"] and not options["remove"]:
            # The exit code that argparse uses for wrong options.
            raise CommandError("--purge needs --remove", returncode=2)
        try:
            description = Description.from_json(_read(options["file"]))
            if options["remove"]:
                outcome = services.remove(
                    description, purge=options["purge"], dry_run=options["dry_run"]
                )
            else:
                outcome = services.provision(description, dry_run=options["dry_run"])
        except (DescriptionError, UsherLmsError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(outcome.as_dict(), indent=1))


def _read(name: str) -> str:
    """The description, from the file or, for ``-``, from standard input. Raises CommandError."""
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the description {name} can't be read: {error}") from error
