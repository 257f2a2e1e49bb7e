import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from usher.embedded.replay import state


class Command(BaseCommand):
    help = (
        "Fill the LMS with the start state of the recordings. With --set-records, keep running: "
        "read a JSON object (a recording's `given`) from each line of standard input, change the "
        "records accordingly and answer with one line."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--application-url", required=True, help="the application's address for the LMS"
        )
        parser.add_argument(
            "--set-records",
            action="store_true",
            help="change records as standard input says, until it ends",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        application = options["application_url"]
        state.create_start_state(application)
        self._print_answer({"state": "start"})
        if options["set_records"]:
            for line in sys.stdin:
                self._print_answer(self._set_records(line, application))

    def _set_records(self, line: str, application: str) -> dict[str, str]:
        try:
            state.set_records(json.loads(line), application)
        except KeyError as error:
            return {"error": f"this state is unknown: {error.args[0]}"}
        return {"state": "set"}

    def _print_answer(self, answer: dict[str, str]) -> None:
        self.stdout.write(json.dumps(answer))
        self.stdout.flush()
