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
            default="NAME",
            help="this application's name in the LMS, for the commands to run there",
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
            done = list(adoption.decide(reader))
        failed = [one for one in done if one.problem]
        if options["json"]:
            self.stdout.write(json.dumps({"linked": [asdict(one) for one in done]}))
        else:
            self._tell(done, options["application"], options["decisions"])
        if failed:
            sys.exit(1)

    def _tell(self, done: list[adoption.Decided], application: str, file: str) -> None:
        for one in done:
            mark = "✗" if one.problem else "✓"
            told = one.problem or ("linked before, checked now" if one.is_again else "linked here")
            self.stdout.write(f"{mark} {one.user}  {one.lms_username}: {told}")
        linked = [one for one in done if not one.problem]
        self.stdout.write(f"{len(linked)} linked, {len(done) - len(linked)} failed.")
        if new := [one for one in linked if not one.is_again]:
            self.stdout.write("To let them sign in to these accounts, run in the LMS:")
            for one in new:
                self.stdout.write(
                    f"  ./manage.py lms usher_link --username {one.lms_username} "
                    f"--application {application}"
                )
            self.stdout.write("Then run this again, to have accounts and tokens checked:")
            self.stdout.write(f"  python manage.py adopt_users --decisions {file}")


def _opened(name: str, mode: str) -> Any:
    try:
        return Path(name).open(mode, newline="", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{name} can't be opened: {error.strerror}.") from error
