import json
from typing import Any

from django.core.management.base import CommandParser

from usher.application.engine.drift import KINDS, drift
from usher.application.management.output import EngineCommand


class Command(EngineCommand):
    help = "Compare both sides, change nothing, say what differs. Exits 1 when something does."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--kind", action="append", choices=KINDS, help=", ".join(KINDS))

    def act(self, **options: Any) -> None:
        found = 0
        shown = []
        for difference in drift(options["kind"] or KINDS):
            found += 1
            if options["json"]:
                shown.append(vars(difference))
                continue
            note = f"  ({difference.note})" if difference.note else ""
            self.stdout.write(
                f"✗ {difference.kind} {difference.what} {difference.field}: "
                f"{difference.here or '–'} here, {difference.there or '–'} in the LMS{note}"
            )
        if options["json"]:
            self.stdout.write(json.dumps({"differences": shown, "count": found}))
        else:
            self.stdout.write(f"✗ {found} differ" if found else "✓ both sides agree")
        if found:
            raise SystemExit(1)
