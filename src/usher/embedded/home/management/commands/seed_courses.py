from typing import Any

from django.core.management.base import BaseCommand

from usher.embedded.home import seeds


class Command(BaseCommand):
    help = "Create the demonstration course and the E2E test course."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{seeds.create_courses()} course runs exist")
