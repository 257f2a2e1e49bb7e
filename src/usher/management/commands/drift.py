import json
from typing import Any

from django.core.management.base import CommandParser

from usher.application.explain import worker_problem
from usher.application.lms.drift import KINDS, drift
from usher.application.management.differences import line_of, rows_of
from usher.application.management.output import EngineCommand
from usher.contract.terminal import wrap


class Command(EngineCommand):
    help = "Compare the application with the LMS and change nothing. Exits 1 on a difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--kind", action="append", choices=KINDS, help=f"only this kind: {', '.join(KINDS)}"
        )

    def act(self, **options: Any) -> None:
        count = 0
        reported_differences = []
        for difference in drift(options["kind"] or KINDS):
            count += 1
            if options["json"]:
                reported_differences.append(difference)
                continue
            # Written as soon as it is found: a comparison can take minutes.
            self.stdout.write(line_of(difference))
        # Without a worker, nobody will remove the differences.
        sentence = worker_problem() if count else None
        worker = f"{sentence.text} {sentence.next}" if sentence else ""
        if options["json"]:
            report = {
                "differences": rows_of(reported_differences),
                "count": count,
                "worker": worker,
            }
            self.stdout.write(json.dumps(report))
        else:
            if worker:
                self.stdout.write(f"! {wrap(worker, 2)}")
            noun = "difference" if count == 1 else "differences"
            self.stdout.write(f"✗ {count} {noun}" if count else "✓ no differences")
        if count:
            raise SystemExit(1)
