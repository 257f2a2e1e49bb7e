"""``manage.py lms usher_send_events``"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from usher.lms.events import sender
from usher.lms.events.retention import delete_old


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Send webhooks and sign-outs that are due, and delete old ones. The LMS sends them after "
        "each change; run this from a timer, or with --watch, to retry those that an application "
        "missed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--watch", action="store_true", help="repeat until interrupted")
        parser.add_argument(
            "--interval", type=float, default=5, help="with --watch: seconds between rounds"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["watch"]:
            seconds = f"{options['interval']:g} seconds"
            self.stderr.write(
                f"sending due webhooks and sign-outs every {seconds}; Ctrl-C stops it"
            )
        while True:
            result = sender.send_due()
            counts = {
                "delivered": result.delivered,
                "failed": result.failed,
                "forgotten": delete_old(),
            }
            if any(counts.values()) or not options["watch"]:
                self.stdout.write(json.dumps(counts))
            if not options["watch"]:
                return
            time.sleep(options["interval"])
