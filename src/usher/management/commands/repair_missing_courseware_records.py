from typing import Any

from django.core.management.base import CommandParser

from usher.application.accounts.repair import count_missing, repair
from usher.application.management.output import EngineCommand, seconds
from usher.application.management.users import find_user


class Command(EngineCommand):
    help = (
        "Create missing LMS accounts and tokens of existing users. Exits 1 if a record failed, or "
        "if nothing can be sent to the LMS now. Records that wait for something else, such as a "
        "retry, do not count as failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--user", metavar="NAME", help="only this learner, by username or e-mail address"
        )
        parser.add_argument(
            "--parallel", action="store_true", help="accepted for old scripts; has no effect"
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="total time to wait for an LMS that fails or throttles (default: 30)",
        )

    def act(self, **options: Any) -> None:
        # An empty name must not mean all learners.
        user = None if options["user"] is None else find_user(options["user"])
        if options["dry_run"]:
            self.finish_dry_run(count_missing(user), "learners", options)
            return
        with self.progress("Learners", options) as progress:
            summary = repair(user, wait=options["wait"], progress=progress)
        self.finish(summary, "accounts and tokens", options)
