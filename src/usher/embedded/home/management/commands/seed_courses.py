from typing import Any

from django.core.management.base import BaseCommand

from usher.embedded.home import seeds


class Command(BaseCommand):
    help = "Make the two courses of the manual procedure."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{seeds.courses()} course runs are there")
