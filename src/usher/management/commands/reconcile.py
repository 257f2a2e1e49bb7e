import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser

from usher.application import conf
from usher.application.lms.drift import KINDS as COMPARED_KINDS
from usher.application.lms.drift import drift
from usher.application.management.differences import line_of, rows_of
from usher.application.management.output import EngineCommand, seconds, why_stopped
from usher.application.management.runs import find_run
from usher.application.management.users import find_user
from usher.contract.terminal import wrap
from usher.engine import services
from usher.engine.registry import all_kinds, kind_names
from usher.engine.summary import Summary


class Command(EngineCommand):
    help = (
        "Send due records to the LMS: all of them, or those of one kind, learner or course run. "
        "Exits 1 if a record failed, or if nothing can be sent to the LMS now. Records that wait "
        "for something else, such as a retry, do not count as failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_accept_missing(parser)
        parser.add_argument(
            "--kind",
            action="append",
            choices=kind_names(),
            metavar="KIND",
            help=f"only this kind: {', '.join(kind_names())}; may be repeated; mode: the modes of "
            "course runs",
        )
        parser.add_argument(
            "--user", metavar="NAME", help="only this learner, by username or e-mail address"
        )
        parser.add_argument("--run", metavar="KEY", help="only this course run")
        parser.add_argument("--watch", action="store_true", help="continue until stopped")
        parser.add_argument(
            "--recheck",
            action="store_true",
            help="also re-check records that are in sync and retry refused ones",
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=0.0,
            metavar="SECONDS",
            help="total time to wait for retries",
        )

    def act(self, **options: Any) -> None:
        kinds = options["kind"] or list(kind_names())
        # An empty value, such as of an unset variable in a script, names nothing; it must not mean
        # everything.
        run = None if options["run"] is None else find_run(options["run"])
        user = None if options["user"] is None else find_user(options["user"])
        scope: dict[str, Any] = {"user": user, "related_to": run}
        if options["dry_run"]:
            if options["recheck"]:
                self._show_differences(kinds, scope, options)
            else:
                self._show_due(kinds, scope, options)
            return
        # The operator wants an attempt now, whatever failed before.
        services.open_gates(kinds)
        services.prepare_sweep()  # makes rows due that lost their work
        made_due = services.recheck(kinds, **scope) if options["recheck"] else None
        with _stopping_at_signals() as stop:
            if options["watch"]:
                if not options["json"]:
                    self._print_what_is_watched(kinds, run, user)
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
                raise KeyboardInterrupt  # ``EngineCommand.handle`` reports it
        # A recheck also asks the LMS for all rows that should exist; that may have failed.
        if made_due is not None and made_due.failure:
            summary.fail_list(made_due.failure)
        services.add_earlier(summary, kinds, **scope)
        self.finish(summary, "records", options)

    def _print_what_is_watched(self, kinds: list[str], run: Any, user: Any) -> None:
        scope = "" if kinds == list(kind_names()) else f" of kind {', '.join(kinds)}"
        scope += f" of {user}" if user else ""
        scope += f" for {run}" if run else ""
        lms = conf.settings().api_base_url
        target = f"to the LMS at {lms}" if lms else "as soon as an LMS is connected"
        text = f"for due records{scope}; sends them {target}. Looks every second; Ctrl-C stops it."
        self.stdout.write(f"… watching {wrap(text, 11)}")
        self.stdout.flush()

    def _show_due(self, kinds: list[str], scope: dict[str, Any], options: dict[str, Any]) -> None:
        """``--dry-run``: counts due records. Exits with 1 if nothing can be sent to the LMS now."""
        due = {name: _count(name, scope, only_due=True) for name in kinds}
        earlier = services.add_earlier(Summary(), kinds, **scope)
        stopped = why_stopped(earlier.waiting)
        if not options["json"]:
            self.show_earlier(earlier)
            if stopped:
                self.show_stopped(stopped)
        groups = earlier.as_dict()
        self.finish_dry_run(
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

    def _show_differences(
        self, kinds: list[str], scope: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """``--dry-run --recheck``: compares the records with the LMS, as ``--recheck`` does."""
        checked = {name: _count(name, scope, only_due=False) for name in kinds}
        compared = [name for name in kinds if name in COMPARED_KINDS]
        differences = list(drift(compared, user=scope["user"], run=scope["related_to"]))
        changes = [difference for difference in differences if difference.action]
        if options["json"]:
            self.finish_dry_run(
                len(changes),
                "records",
                options,
                checked=checked,
                differences=rows_of(differences),
            )
            return
        for difference in differences:
            self.stdout.write(line_of(difference))
            action = difference.action or "be left as it is"
            self.stdout.write(f"    would {wrap(action, 10)}")
        not_compared = [name for name in kinds if name not in COMPARED_KINDS]
        if not_compared:
            text = f"not compared in a dry run: {', '.join(not_compared)}"
            self.stdout.write(f"  {wrap(text, 2)}")
        text = (
            f"dry run: {sum(checked.values())} records to check, "
            f"{len(differences)} differ, {len(changes)} would be changed; "
            "nothing was changed"
        )
        self.stdout.write(f"✓ {wrap(text, 2)}")


def _count(name: str, scope: dict[str, Any], *, only_due: bool) -> int:
    """How many rows of the kind with this name are in the scope."""
    kind = all_kinds()[name]
    condition = services.scope_of(**scope).condition_for(kind)
    if condition is None:  # the kind has no rows in the scope, such as course runs of a learner
        return 0
    rows = kind.rows().due() if only_due else kind.rows()
    return rows.filter(condition).count()


@contextmanager
def _stopping_at_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The pass then waits for answers to requests
    that were sent, and releases the other rows. A second signal ends the command immediately."""
    stop = threading.Event()
    handlers: dict[int, Any] = {}

    def restore_handlers() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: Any) -> None:
        stop.set()
        restore_handlers()  # for the second signal

    # Python lets only the main thread set handlers.
    if threading.current_thread() is threading.main_thread():
        handlers = {
            signal_number: signal.signal(signal_number, on_signal)
            for signal_number in (signal.SIGINT, signal.SIGTERM)
        }
    try:
        yield stop
    finally:
        restore_handlers()
