import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from usher.application.explain import Sentence, explain
from usher.application.management.output import EngineCommand
from usher.application.management.users import named
from usher.application.runs.models import CourseRun
from usher.application.states import State
from usher.contract.terminal import wrapped

_MARKS = {State.IN_SYNC: "✓", State.REFUSED: "✗"}


class Command(EngineCommand):
    help = "Explain one learner's state: account, token, enrollments, and what happens next."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("learner", help="e-mail address, username or LMS username")
        parser.add_argument("run", nargs="?", default="", help="only this course key")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> None:
        user = named(options["learner"])
        run = None
        if options["run"]:
            run = CourseRun.objects.filter(course_key=options["run"]).first()
            if run is None:
                raise CommandError(
                    f"{options['run']} is not known here: manage.py sync_courserun "
                    f"--run {options['run']}"
                )
        story = explain(user, run)
        if options["json"]:
            self.stdout.write(json.dumps({"story": [one.as_dict() for one in story]}))
            return
        for one in story:
            self._tell(one)

    def _tell(self, one: Sentence) -> None:
        mark = _MARKS.get(State(one.state), "…") if one.state else " "
        self.stdout.write(f"{mark} {one.topic:<11} {wrapped(one.text, 14)}")
        for more in (f"{one.state}. " * bool(one.state) + one.cause, one.next):
            if more.strip():
                self.stdout.write(f"{'':<14}{wrapped(more.strip(), 14)}")
