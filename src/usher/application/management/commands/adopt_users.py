import csv
import json
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from usher.application.accounts import adoption
from usher.application.management.output import EngineCommand
from usher.contract.spreadsheets import cell, value

#: Usernames in one printed command: the LMS needs many seconds to start each.
_NAMES_A_COMMAND = 50


class Command(EngineCommand):
    help = "List users with an existing LMS account, and link those that you decide on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--by",
            choices=[adoption.BY_EMAIL, adoption.BY_USERNAME],
            default=adoption.BY_EMAIL,
            help="what identifies a person in both (default email)",
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
            help="this application's name in the LMS, for the commands to run there, where the LMS "
            "doesn't tell it",
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
        found = adoption.propose(options["by"])
        if options["json"]:
            self.stdout.write(json.dumps({"users": [asdict(one) for one in found]}))
            return
        text = _csv(found)
        if options["to"]:
            # Spreadsheets read other letters than ASCII as UTF-8 only after a byte order mark.
            encoding = "utf-8" if text.isascii() else "utf-8-sig"
            with _opened(options["to"], "x", encoding) as file:
                file.write(text)
        else:
            self.stdout.write(text, ending="")
        conflicts = sum(bool(one.conflict) for one in found)
        self.note(
            f"LMS accounts found for users without one from Usher: {len(found)}, {conflicts} with "
            "a conflict. Nothing was changed."
            + (
                " Write 'link' into the column decision where both are the same person, then run: "
                f"manage.py adopt_users --decisions {options['to'] or 'FILE'}"
                if found
                else ""
            )
        )

    def _decide(self, options: Any) -> None:
        done = []
        rows = _decisions(options["decisions"])
        for one in adoption.decide(rows, application=options["application"]):
            done.append(one)
            if not options["json"]:
                self.stdout.write(_line(one))
        if options["json"]:
            self.stdout.write(json.dumps({"linked": [asdict(one) for one in done]}))
        else:
            self._tell_what_is_left(done, options)
        if any(one.problem for one in done):
            sys.exit(1)

    def _tell_what_is_left(self, done: list[adoption.Decided], options: Any) -> None:
        linked = [one for one in done if not one.problem]
        self.stdout.write(f"{len(linked)} linked, {len(done) - len(linked)} failed.")
        if not done:
            self.stdout.write("No row has 'link' in the column decision, so nothing was changed.")
        left = [one for one in linked if one.is_linked is False or _is_unknown(one)]
        if not left:
            return
        self.stdout.write("To let them sign in to these accounts, run in the LMS:")
        for application, names in _by_application(left, options["application"]).items():
            for start in range(0, len(names), _NAMES_A_COMMAND):
                some = " ".join(names[start : start + _NAMES_A_COMMAND])
                self.stdout.write(
                    f"  ./manage.py lms usher_link --username {some} --application {application}"
                )
        self.stdout.write(
            "Until then their records are pending. Afterwards a worker processes them within ten "
            "minutes, or at once when you run this again:"
        )
        self.stdout.write(f"  python manage.py adopt_users --decisions {options['decisions']}")


def _line(one: adoption.Decided) -> str:
    if one.problem:
        return f"✗ {one.user}  {one.lms_username}: {one.problem}"
    here = "linked before" if one.is_again else "linked here"
    if one.is_linked:
        link = f"{here}, and in the LMS; checked now"
    elif _is_unknown(one) or one.is_linked is False:
        link = f"{here}, not in the LMS yet"
    else:
        link = f"{here}, checked now"
    return f"✓ {one.user}  {one.lms_username}: {link}"


def _is_unknown(one: adoption.Decided) -> bool:
    """Whether the user was linked here now, and the LMS can't say whether it links them, too."""
    return one.is_linked is None and not one.is_again


def _by_application(left: list[adoption.Decided], given: str) -> dict[str, list[str]]:
    """Usernames of LMS accounts, by the application's name in the LMS. given: by the operator."""
    found: dict[str, list[str]] = {}
    for one in left:
        found.setdefault(given or one.application or "NAME", []).append(one.lms_username)
    return found


def _csv(found: list[adoption.Proposal]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, adoption.COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in found:
        writer.writerow({name: cell(each) for name, each in asdict(one).items()})
    return text.getvalue()


def _decisions(name: str) -> list[dict[str, str]]:
    """The rows of the file, as a spreadsheet may have written it: with a byte order mark, or with
    semicolons. Raises CommandError."""
    with _opened(name, "r", "utf-8-sig") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise CommandError(f"{name} is not in UTF-8: save it as CSV UTF-8.") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter)
    if absent := {"user_id", "lms_username", "lms_user_id", "decision"} - set(
        reader.fieldnames or ()
    ):
        raise CommandError(
            f"{name} lacks the columns {', '.join(sorted(absent))}: start from the file that "
            "manage.py adopt_users --to FILE writes."
        )
    columns = list(reader.fieldnames or ())
    return [{one: value(row[one] or "") for one in columns} for row in reader]


def _opened(name: str, mode: str, encoding: str) -> Any:
    try:
        return Path(name).open(mode, newline="", encoding=encoding)
    except OSError as error:
        raise CommandError(f"{name} can't be opened: {error.strerror}.") from error
