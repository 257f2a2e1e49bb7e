from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from usher.embedded.home import seeds


class Command(BaseCommand):
    help = "Create many course runs, for measurements."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--runs", type=int, required=True, help="number of course runs")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{seeds.create_load_runs(options['runs'])} course runs exist")
