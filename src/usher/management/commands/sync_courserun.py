from typing import Any

from django.core.management.base import CommandParser

from usher.application.management import runs
from usher.application.management.output import EngineCommand


class Command(EngineCommand):
    help = "Sync course runs with the LMS: title, dates, modes."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_accept_missing(parser)
        selection = parser.add_mutually_exclusive_group(required=True)
        # Takes a value, as in MIT's command, so that scripts which call that command still work.
        selection.add_argument(
            "--all", metavar="ALL", help="all runs; needs a value, as in MIT's command: --all ALL"
        )
        selection.add_argument("--run", metavar="KEY", help="one run, by its course key")

    def act(self, **options: Any) -> None:
        runs.sync(self, None if options["run"] is None else [options["run"]], options)
