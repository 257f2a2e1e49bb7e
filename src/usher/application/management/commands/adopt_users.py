import csv
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError, CommandParser

from usher.application.accounts import adoption
from usher.application.management.output import EngineCommand


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
        found = adoption.propose(options["by"])
        if options["json"]:
            self.stdout.write(json.dumps({"users": [asdict(one) for one in found]}))
            return
        with ExitStack() as stack:
            file: IO[str] | Any = self.stdout
            if options["to"]:
                file = stack.enter_context(_opened(options["to"], "w"))
            writer = csv.DictWriter(file, adoption.COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(one) for one in found)
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
        with _opened(options["decisions"], "r") as file:
            reader = csv.DictReader(file)
            if absent := {"user_id", "lms_username", "lms_user_id", "decision"} - set(
                reader.fieldnames or ()
            ):
                raise CommandError(
                    f"{options['decisions']} lacks the columns {', '.join(sorted(absent))}: start "
                    "from the file that manage.py adopt_users --to FILE writes."
                )
            done = []
            for one in adoption.decide(reader, application=options["application"]):
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
        left = [one for one in linked if one.is_linked is False or _is_unknown(one)]
        if not left:
            return
        self.stdout.write("To let them sign in to these accounts, run in the LMS:")
        for one in left:
            application = options["application"] or one.application or "NAME"
            self.stdout.write(
                f"  ./manage.py lms usher_link --username {one.lms_username} "
                f"--application {application}"
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


def _opened(name: str, mode: str) -> Any:
    try:
        return Path(name).open(mode, newline="", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{name} can't be opened: {error.strerror}.") from error
