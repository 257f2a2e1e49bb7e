import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Print the value of one Django setting, as the platform's command does."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("settings_list", nargs="+")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in options["settings_list"]:
            if not hasattr(settings, name):
                raise CommandError(f"{name} not found in settings.")
            value = getattr(settings, name)
            self.stdout.write(json.dumps(value) if options["json"] else f"{value}")
