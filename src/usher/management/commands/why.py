import json
from typing import Any

from django.core.management.base import CommandParser

from usher.application.explain import (
    Sentence,
    explain,
    how_to_compare,
    how_to_delete_mistyped_runs,
    how_to_retry,
    worker_or_broker_problem,
)
from usher.application.management.output import EngineCommand
from usher.application.management.runs import find_run
from usher.application.management.users import find_user
from usher.application.states import State
from usher.contract.terminal import wrap

#: Columns of the widest topic, and of the mark, the topic and the spaces before a text.
_TOPIC_COLUMNS, _INDENT = 11, 14
_MARKS = {State.IN_SYNC: "✓", State.REFUSED: "✗"}


class Command(EngineCommand):
    help = "Explain one learner's state: account, token, enrollments, and what happens next."
    # The command only reads the database, and warnings about settings would hide the answer.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("learner", help="e-mail address, username or LMS username")
        parser.add_argument("run", nargs="?", help="only this course key")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> None:
        user = find_user(options["learner"])
        run = None if options["run"] is None else find_run(options["run"])
        story = [*explain(user, run)]
        states = {sentence.state for sentence in story}
        if State.REFUSED in states:
            story += [how_to_retry(user), *how_to_delete_mistyped_runs(user)]
        if {State.PENDING, State.RETRYING} & states:
            story += worker_or_broker_problem()
        # A sentence about the account has no state if the learner has no account's row.
        if any(sentence.topic == "account" and sentence.state for sentence in story):
            story += how_to_compare(user)
        if options["json"]:
            self.stdout.write(json.dumps({"story": [sentence.as_dict() for sentence in story]}))
            return
        for sentence in story:
            self._print(sentence)

    def _print(self, sentence: Sentence) -> None:
        if not sentence.state:
            mark = " "
        elif sentence.state == State.IN_SYNC and sentence.next:
            mark = "!"  # in sync, and yet something remains to be done or will happen
        else:
            mark = _MARKS.get(State(sentence.state), "…")
        self.stdout.write(
            f"{mark} {sentence.topic:<{_TOPIC_COLUMNS}} {wrap(sentence.text, _INDENT)}"
        )
        state = f"{sentence.state}. " if sentence.state else ""
        for detail in (state + sentence.cause, sentence.next):
            if detail.strip():
                self.stdout.write(" " * _INDENT + wrap(detail.strip(), _INDENT))
