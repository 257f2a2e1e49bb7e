import json
from typing import Any

from django.core.management.base import CommandParser

from usher.application.lms.drift import KINDS, drift
from usher.application.management.differences import line_of, rows_of
from usher.application.management.output import EngineCommand


class Command(EngineCommand):
    help = "Compare the application with the LMS; changes nothing. Exits 1 on a difference."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--kind", action="append", choices=KINDS, help=f"only this kind: {', '.join(KINDS)}"
        )

    def act(self, **options: Any) -> None:
        found = 0
        shown = []
        for difference in drift(options["kind"] or KINDS):
            found += 1
            if options["json"]:
                shown.append(difference)
                continue
            self.stdout.write(line_of(difference))
        if options["json"]:
            self.stdout.write(json.dumps({"differences": rows_of(shown), "count": found}))
        else:
            plural = "difference" if found == 1 else "differences"
            self.stdout.write(f"✗ {found} {plural}" if found else "✓ no differences")
        if found:
            raise SystemExit(1)
