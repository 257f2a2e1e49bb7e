import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from usher.application.lms.drift import KINDS as COMPARED
from usher.application.lms.drift import drift
from usher.application.management.differences import line_of, rows_of
from usher.application.management.output import EngineCommand, seconds, why_stopped
from usher.application.management.users import named
from usher.application.runs.models import CourseRun
from usher.engine import services
from usher.engine.registry import all_kinds, names
from usher.engine.summary import Summary


class Command(EngineCommand):
    help = (
        "Send what is due to the LMS: everything, or one kind, learner or course run. Exits 1 if a "
        "record failed or nothing can be sent now, and 0 if records only wait."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_accept_missing(parser)
        parser.add_argument(
            "--kind",
            action="append",
            choices=names(),
            metavar="KIND",
            help=f"only this kind: {', '.join(names())}",
        )
        parser.add_argument("--user", help="only this learner, by username or e-mail")
        parser.add_argument("--run", metavar="KEY", help="only this course run")
        parser.add_argument("--watch", action="store_true", help="continue until stopped")
        parser.add_argument(
            "--recheck",
            action="store_true",
            help="also re-check settled records and retry refused ones",
        )
        parser.add_argument(
            "--wait", type=seconds, default=0.0, metavar="SECONDS", help="wait for retries due soon"
        )

    def act(self, **options: Any) -> None:
        kinds = options["kind"] or list(names())
        scope = {"user": _user(options["user"]), "about": _run(options["run"])}
        if options["dry_run"]:
            self._report_what_would_change(kinds, scope, options)
            return
        services.reopen(kinds)
        services.sweep_prepare()
        made_due = services.recheck(kinds, **scope) if options["recheck"] else None
        with _stopping_at_signals() as stop:
            if options["watch"]:
                services.watch(kinds, stop=stop, **scope)
                return
            with self.progress("Records", options) as progress:
                patience = services.Patience(options["wait"])
                summary = services.reconcile(
                    kinds,
                    made_due=made_due,
                    patience=patience,
                    progress=progress,
                    stop=stop,
                    accept_missing=options["accept_missing"],
                    **scope,
                )
            if stop.is_set():
                raise KeyboardInterrupt
        services.add_earlier(summary, kinds, **scope)
        self.finish(summary, "records", options)

    def _report_what_would_change(
        self, kinds: list[str], scope: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """``--dry-run``. With ``--recheck`` it compares with the LMS, as the run would."""
        if not options["recheck"]:
            due = {name: _count(name, scope, only_due=True) for name in kinds}
            earlier = services.add_earlier(Summary(), kinds, **scope)
            stopped = why_stopped(earlier.waiting)
            if not options["json"]:
                self.show_earlier(earlier)
                if stopped:
                    self.show_stopped(stopped)
            groups = earlier.as_dict()
            self.would_change(
                sum(due.values()),
                "records",
                options,
                due=due,
                waiting=groups["waiting"],
                refused=groups["refused"],
                stopped=stopped,
            )
            if stopped:
                raise SystemExit(1)
            return
        checked = {name: _count(name, scope, only_due=False) for name in kinds}
        compared = [name for name in kinds if name in COMPARED]
        found = list(drift(compared, user=scope["user"], run=scope["about"]))
        would = [one for one in found if one.action]
        if options["json"]:
            count = len(would)
            self.would_change(count, "", options, checked=checked, differences=rows_of(found))
            return
        for difference in found:
            self.stdout.write(line_of(difference))
            self.stdout.write(f"    would {difference.action or 'be left as it is'}")
        others = [name for name in kinds if name not in COMPARED]
        if others:
            self.stdout.write(f"  not compared in a dry run: {', '.join(others)}")
        self.stdout.write(
            f"✓ dry run: {sum(checked.values())} records to check, {len(found)} differ, "
            f"{len(would)} would be changed; nothing was"
        )


def _user(name: str | None) -> Any:
    return named(name) if name else None


def _run(key: str | None) -> CourseRun | None:
    if not key:
        return None
    run = CourseRun.objects.filter(course_key=key).first()
    if run is None:
        raise CommandError(f"No course run here has the key {key[:200]!r}.")
    return run


def _count(name: str, scope: dict[str, Any], *, only_due: bool) -> int:
    kind = all_kinds()[name]
    condition = services.scope_of(**scope).of(kind)
    rows = kind.rows().due() if only_due else kind.rows()
    return rows.filter(condition).count() if condition is not None else 0


@contextmanager
def _stopping_at_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The run then waits for answers to requests
    that were sent, and releases the other rows. A second signal ends the command at once."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def on_signal(number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
