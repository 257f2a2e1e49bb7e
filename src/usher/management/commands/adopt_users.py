import csv
import json
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from usher.application import dev_lms
from usher.application.accounts import adoption
from usher.application.management.output import EngineCommand
from usher.application.states import duration_text
from usher.application.user_model import signs_in_by_email
from usher.contract.spreadsheets import safe_cell, text_of_cell
from usher.contract.terminal import command_line, wrap

#: Usernames in one printed command. Each command needs many seconds to start in the LMS.
_NAMES_A_COMMAND = 50


class Command(EngineCommand):
    help = "List users who may have an LMS account already, and link those that you choose."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--by",
            choices=[adoption.BY_EMAIL, adoption.BY_USERNAME],
            default=adoption.BY_EMAIL,
            help="what a user and an LMS account must have in common (default: email)",
        )
        parser.add_argument("--to", metavar="FILE", help="write the list to this CSV file")
        parser.add_argument(
            "--decisions",
            metavar="FILE",
            help="link the rows of this CSV file whose decision is 'link'",
        )
        parser.add_argument(
            "--application",
            default="",
            help="this application's name in the LMS, for the usher_link commands that are "
            "printed; needed if the LMS does not report the name",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> None:
        if options["decisions"]:
            self._decide(options)
        else:
            self._propose(options)

    def _propose(self, options: Any) -> None:
        if options["to"] and Path(options["to"]).exists():
            raise CommandError(
                f"{options['to']} exists already and may contain decisions: delete it, or give "
                "another name."
            )
        if options["by"] == adoption.BY_USERNAME and signs_in_by_email():
            raise CommandError(
                "People sign in with their e-mail address here, and LMS usernames can't be e-mail "
                "addresses: leave out --by username."
            )
        proposals = adoption.propose(options["by"])
        if options["json"]:
            self.stdout.write(json.dumps({"users": [asdict(proposal) for proposal in proposals]}))
            return
        csv_text = _csv(proposals)
        if options["to"]:
            # Spreadsheets read other letters than ASCII as UTF-8 only after a byte order mark.
            encoding = "utf-8" if csv_text.isascii() else "utf-8-sig"
            with _open(options["to"], "x", encoding) as file:
                file.write(csv_text)
        else:
            self.stdout.write(csv_text, ending="")
        conflicts = sum(bool(proposal.conflict) for proposal in proposals)
        text = (
            "LMS accounts found for users whose account Usher has not created or linked: "
            f"{len(proposals)}, {conflicts} with a conflict. Nothing was changed."
        )
        if proposals:
            text += (
                "\nWrite 'link' into the column decision where both are the same person, then run:"
                f"\n$ python manage.py adopt_users --decisions {options['to'] or 'FILE'}"
            )
        self.note(wrap(text, 0))

    def _decide(self, options: Any) -> None:
        decisions = []
        rows = _read_decisions(options["decisions"])
        for decision in adoption.decide(rows, application=options["application"]):
            decisions.append(decision)
            if not options["json"]:
                self.stdout.write(_result_line(decision))
        if options["json"]:
            # All results, including those with a problem.
            self.stdout.write(json.dumps({"linked": [asdict(decision) for decision in decisions]}))
        else:
            self._print_next_steps(decisions, options)
        if any(decision.problem for decision in decisions):
            sys.exit(1)

    def _print_next_steps(self, decisions: list[adoption.DecisionResult], options: Any) -> None:
        """Prints the commands that link, in the LMS, the accounts that it has not linked yet or for
        which it can't say."""
        linked = [decision for decision in decisions if not decision.problem]
        self.stdout.write(f"{len(linked)} linked, {len(decisions) - len(linked)} failed.")
        if not decisions:
            self.stdout.write("No row has 'link' in the column decision, so nothing was changed.")
        remaining = [decision for decision in linked if not decision.is_complete]
        if not remaining:
            return
        lms_command = dev_lms.lms_command()
        where = "" if lms_command else " in the LMS"
        self.stdout.write(f"To let these learners sign in to the accounts, run{where}:")
        for application, names in _names_by_application(remaining, options["application"]).items():
            for start in range(0, len(names), _NAMES_A_COMMAND):
                usernames = " ".join(names[start : start + _NAMES_A_COMMAND])
                program = lms_command or "./manage.py lms"
                command = f"{program} usher_link --username {usernames} --application {application}"
                self.stdout.write(command_line(command, 2))
        self.stdout.write(
            wrap(
                "Until then, the records of these learners are pending. Afterwards, a worker "
                f"processes them within {duration_text(adoption.TIME_TO_LINK.total_seconds())}. To "
                "process them immediately, run:",
                0,
            )
        )
        repeat_command = f"python manage.py adopt_users --decisions {options['decisions']}"
        self.stdout.write(command_line(repeat_command, 2))


def _result_line(decision: adoption.DecisionResult) -> str:
    if decision.problem:
        return f"✗ {decision.user}  {decision.lms_username}: {decision.problem}"
    result = "linked before" if decision.was_linked_before else "linked here"
    if not decision.is_complete:
        result += ", not in the LMS yet"
    elif decision.is_linked:
        result += ", and in the LMS; checked now"
    else:  # the LMS can't say
        result += ", checked now"
    return f"✓ {decision.user}  {decision.lms_username}: {result}"


def _names_by_application(
    decisions: list[adoption.DecisionResult], name: str
) -> dict[str, list[str]]:
    """Usernames of LMS accounts, by the application's name in the LMS; ``NAME`` stands for a name
    that is not known. name: the application's name that the operator gave, or ''."""
    names: dict[str, list[str]] = {}
    for decision in decisions:
        names.setdefault(name or decision.application or "NAME", []).append(decision.lms_username)
    return names


def _csv(proposals: list[adoption.Proposal]) -> str:
    """The list as CSV, in which a spreadsheet reads no value as a formula."""
    text = StringIO()
    writer = csv.DictWriter(text, adoption.COLUMNS, lineterminator="\n")
    writer.writeheader()
    for proposal in proposals:
        writer.writerow({name: safe_cell(value) for name, value in asdict(proposal).items()})
    return text.getvalue()


def _read_decisions(name: str) -> list[dict[str, str]]:
    """The rows of the file, as a spreadsheet may have written it: with a byte order mark, or with
    semicolons or tabs in place of commas. Raises CommandError."""
    with _open(name, "r", "utf-8-sig") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise CommandError(f"{name} is not in UTF-8: save it as CSV UTF-8.") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter)
    columns = list(reader.fieldnames or ())
    absent = {"user_id", "lms_username", "lms_user_id", "decision"}.difference(columns)
    if absent:
        raise CommandError(
            f"{name} lacks the columns {', '.join(sorted(absent))}: start from the file that "
            "this command writes: `python manage.py adopt_users --to FILE`"
        )
    decisions = []
    for row in reader:
        decisions.append({column: text_of_cell(row[column] or "") for column in columns})
    return decisions


def _open(name: str, mode: str, encoding: str) -> Any:
    """The opened CSV file. mode: as for ``open``. Raises CommandError."""
    try:
        return Path(name).open(mode, newline="", encoding=encoding)
    except OSError as error:
        raise CommandError(f"{name} can't be opened: {error.strerror}.") from error
