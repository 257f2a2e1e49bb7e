import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from usher.embedded.replay import state


class Command(BaseCommand):
    help = (
        "Fill the LMS with the state that the recordings start from. With --hold, keep running: "
        "read a JSON object (a recording's `given`) from each line, apply it and answer with one "
        "line."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--application-url", required=True, help="where servers reach it")
        parser.add_argument("--hold", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        application = options["application_url"]
        state.start(application)
        self._say({"state": "start"})
        if options["hold"]:
            for line in sys.stdin:
                self._say(self._hold(line, application))

    def _hold(self, line: str, application: str) -> dict[str, str]:
        try:
            state.hold(json.loads(line), application)
        except KeyError as error:
            return {"error": f"this state is unknown: {error.args[0]}"}
        return {"state": "held"}

    def _say(self, answer: dict[str, str]) -> None:
        self.stdout.write(json.dumps(answer))
        self.stdout.flush()
