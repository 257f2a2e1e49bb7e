import json
import shlex
from typing import Any

from django.core.management.base import CommandError, CommandParser

from usher.application.management.output import EngineCommand
from usher.application.management.users import find_user
from usher.console.comparisons import Comparison
from usher.console.learners import comparing, repairing, services
from usher.contract.terminal import as_typed, wrap

#: Whether a value differs in the LMS → the mark of its line. None: unknown.
_MARKS = {True: "✗", False: "✓", None: "-"}
#: The label of the console's button, which advice names.
_REPAIR_BUTTON = "Repair now"
#: The column at which the values of a line begin.
_TEXT_COLUMN = 17


class Command(EngineCommand):
    help = (
        "Read one learner's records from the LMS now, and compare them with those here, as the "
        "console's “Compare with the LMS now” does. Exits 1 if something differs or is not in "
        "sync."
    )
    # Warnings about settings would hide the answer.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("learner", help="e-mail address, username or LMS username")
        parser.add_argument(
            "--repair",
            action="store_true",
            help="first repair the records, as the console's “Repair now” does",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> None:
        user = find_user(options["learner"])
        if options["repair"]:
            summary = repairing.repair(user)
            if not options["json"]:
                self.stdout.write(f"  {'repair':<14} {wrap(summary.line(), _TEXT_COLUMN)}")

        compared = comparing.compare(user)
        if compared.problem:
            raise CommandError(f"The LMS's records could not be read: {compared.problem}")
        details = services.read_learner(user, compared.differing_records)
        headline = comparing.headline(details, compared)
        differs = compared.difference_count or compared.alarm or compared.candidates
        is_ok = not differs and details.verdict.state == "ok"

        if options["json"]:
            self.stdout.write(json.dumps(_as_dict(compared, headline)))
        else:
            self.stdout.write(f"{'✓' if is_ok else '✗'} {wrap(headline.text, indent=2)}")
            if headline.advice:
                self.stdout.write(f"  {wrap(headline.advice, indent=2)}")
            self._show_comparisons(compared, headline.advice)
            self._show_commands(compared, details)
        if not is_ok:
            raise SystemExit(1)

    def _show_comparisons(self, compared: comparing.ComparedLearner, shown_advice: str) -> None:
        """Prints each comparison, and accounts that may be the learner's. shown_advice: advice that
        was shown already and is not repeated."""
        for comparison in compared.comparisons:
            mark = _MARKS[comparison.differs]
            values = comparison.in_lms or "not known"
            if comparison.differs:
                values += f"; desired: {comparison.here or '–'}"
            self.stdout.write(f"{mark} {comparison.subject:<14} {wrap(values, _TEXT_COLUMN)}")
            if comparison.advice and comparison.advice != shown_advice:
                self.stdout.write(f"{'':<{_TEXT_COLUMN}}{wrap(comparison.advice, _TEXT_COLUMN)}")
        for candidate in compared.candidates:
            text = (
                f"The LMS has the account {candidate.lms_username}, which may be this learner's. "
                "If it is, link it on the learner's page of the console, or with adopt_users."
            )
            self.stdout.write(f"? {'LMS account':<14} {wrap(text, _TEXT_COLUMN)}")

    def _show_commands(
        self, compared: comparing.ComparedLearner, details: services.LearnerDetails
    ) -> None:
        """Prints the commands that correct something: one for the LMS's staff, and this command
        with ``--repair``."""
        if compared.command:
            self.stdout.write(f"{wrap(details.link_condition, indent=0)}\n$ {compared.command}")
        if any(_REPAIR_BUTTON in comparison.advice for comparison in compared.comparisons):
            name = shlex.quote(details.username)
            command = as_typed(f"$ python manage.py compare_learner {name} --repair")
            self.stdout.write(
                f"“{_REPAIR_BUTTON}” is a button in the console. Here, it is:\n{command}"
            )


def _as_dict(compared: comparing.ComparedLearner, headline: comparing.Headline) -> dict[str, Any]:
    return {
        "result": headline.text,
        "advice": headline.advice,
        "differences": compared.difference_count,
        "comparisons": [_comparison_as_dict(comparison) for comparison in compared.comparisons],
        "candidates": [candidate.lms_username for candidate in compared.candidates],
        "command": compared.command,
    }


def _comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "subject": comparison.subject,
        "here": comparison.here,
        "in_lms": comparison.in_lms,
        "differs": comparison.differs,
        "advice": comparison.advice,
    }
