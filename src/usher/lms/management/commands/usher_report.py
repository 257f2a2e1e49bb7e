"""``manage.py lms usher_report``"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from usher.lms.reporting.services import report


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Print facts about this LMS for `usher doctor`, as JSON without secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--no-probe", action="store_true", help="do not try the application's token endpoint"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(report(probe=not options["no_probe"]), indent=1))
