"""``usher reconcile --watch``: what each check reads, and how watching ends."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from tests.sidecar.conftest import System, checkout_of, name_for
from tests.sidecar.test_drift import course_of
from tests.sidecar.test_reconcile import ACCOUNT, only_for, reconcile_command, tokens_of, wait_until
from tests.support.faults import SLOW, UNAVAILABLE, faulty_proxy
from usher.client.errors import Throttled
from usher.sidecar import summary
from usher.sidecar.accounts import ACCOUNT as ACCOUNT_KIND
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.enrollments import ENROLLMENT
from usher.sidecar.errors import SidecarError
from usher.sidecar.process import Agent
from usher.sidecar.reconcile import PassScope, count_due
from usher.sidecar.runs import RUN
from usher.sidecar.summary import DONE, FAILED, REFUSED, SKIPPED, RowMemory, Summary
from usher.sidecar.watch_state import WatchState
from usher.sidecar.watching import (
    FULL_PAUSE_FACTOR,
    QUICK_PAUSE_FACTOR,
    SECONDS_BETWEEN_COMPARISONS,
    SECONDS_BETWEEN_PASSES,
    FullPasses,
    PassThreads,
    QuickPasses,
    Stopping,
    Watching,
)


def test_a_quick_pass_reads_the_changes_since_the_last_pass() -> None:
    quick = QuickPasses(PassScope())
    first = quick.next_scope(now=1000.0)
    assert first.changed_within_seconds is not None
    quick.finish_pass(started=1000.0, busy_seconds=0.01)
    # 200 seconds later, for example because the application or the LMS did not answer.
    later = quick.next_scope(now=1200.0)
    assert later.changed_within_seconds is not None
    assert later.changed_within_seconds > 200.0


def test_a_slow_pass_runs_less_often() -> None:
    quick, full = QuickPasses(PassScope()), FullPasses(PassScope(kinds=(ACCOUNT_KIND,)))
    assert quick.finish_pass(started=1000.0, busy_seconds=0.01) == SECONDS_BETWEEN_PASSES
    assert quick.finish_pass(started=1000.0, busy_seconds=3.0) == 3.0 * QUICK_PAUSE_FACTOR
    full.finish_pass(ACCOUNT_KIND, started=1000.0, ended=1040.0, busy_seconds=30.0)
    next_pass_at = 1040.0 + 30.0 * FULL_PAUSE_FACTOR
    assert full.next_kind(now=next_pass_at - 1.0) is None
    assert full.next_kind(now=next_pass_at) == ACCOUNT_KIND


def test_a_pass_that_a_rate_limit_of_the_lms_ends_is_repeated() -> None:
    """The error ends no other pass: the LMS has several limits, so these may continue."""
    limited = [Throttled("Rate limited by the LMS (courses).", retry_after=0.01)]
    summaries: list[Summary] = []

    def reconcile(_session: Any, _scope: PassScope, found: Summary) -> None:
        if limited:
            raise limited.pop()
        found.add(RUN, DONE, "course-v1:a+b+c")

    session: Any = SimpleNamespace(
        agent=SimpleNamespace(busy_seconds=0.0), adapter=SimpleNamespace(title="MIT xPro")
    )
    scope = PassScope(kinds=(RUN,))
    watching = Watching(scope, WatchState(), summaries.append)
    with patch("usher.sidecar.watching.reconcile", reconcile):
        # The result is the time that the agent was busy.
        assert watching._run_pass_within_rate_limit(session, scope, PassThreads([])) == 0.0
    first, second = (each.as_data()["kinds"][RUN] for each in summaries)
    assert (first[FAILED], second[DONE]) == (1, 1)


def test_a_slow_lms_does_not_make_passes_less_frequent() -> None:
    full = FullPasses(PassScope(kinds=(ACCOUNT_KIND,)))
    # The pass took 900 seconds, in which the application's database was almost idle.
    full.finish_pass(ACCOUNT_KIND, started=1000.0, ended=1900.0, busy_seconds=0.01)
    assert full.next_kind(now=1900.0 + SECONDS_BETWEEN_PASSES) == ACCOUNT_KIND


def test_full_passes_process_one_kind_at_a_time_and_rarely_compare_with_the_lms() -> None:
    full = FullPasses(PassScope())

    def process_due_kinds(now: float) -> list[str]:
        kinds = []
        while kind := full.next_kind(now=now):
            kinds.append(kind)
            full.finish_pass(kind, started=now, ended=now, busy_seconds=0.01)
        return kinds

    assert process_due_kinds(1000.0) == ["account", "enrollment", "run", "run-mode"]
    # Soon afterwards, only the kinds are due whose state the application records.
    recorded_kinds = ["account", "enrollment"]
    assert process_due_kinds(1000.0 + SECONDS_BETWEEN_PASSES) == recorded_kinds
    much_later = 1000.0 + SECONDS_BETWEEN_COMPARISONS
    assert process_due_kinds(much_later - 1.0) == recorded_kinds
    # Runs are compared with the LMS.
    assert "run" in process_due_kinds(much_later)


def test_failed_and_refused_rows_wait_until_they_are_changed_or_done() -> None:
    """The second argument of ``is_due`` and ``record`` names the row and its content."""
    memory = RowMemory()
    assert memory.is_due("account", "ada@old")
    for _ in range(3):
        memory.record("account", "ada@old", FAILED)
    assert not memory.is_due("account", "ada@old")
    memory.record("account", "ada@old", REFUSED)
    assert not memory.is_due("account", "ada@old")
    assert memory.is_due("account", "ada@new")
    memory.record("account", "ada@old", DONE)
    assert memory.is_due("account", "ada@old")


def test_rows_that_a_killed_process_has_locked_are_tried_soon_after_the_lock_ends() -> None:
    memory, clock = RowMemory(), SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    tries = []
    with patch.object(summary, "time", clock):
        while clock.now < 130.0:  # MITx Online's locks end after 120 seconds
            if memory.is_due("account", "ada"):
                tries.append(clock.now)
                memory.record("account", "ada", SKIPPED)
            clock.now += 1.0
        clock.now += 15.0
        assert memory.is_due("account", "ada")
    assert len(tries) < 15  # far fewer than one attempt a second


def test_a_pass_that_fails_ends_all_passes() -> None:
    ended = []

    def fail(threads: PassThreads) -> None:
        raise SidecarError("no answer")

    def continue_until_ended(threads: PassThreads) -> None:
        try:
            while True:
                threads.pause(0.01)
        finally:
            ended.append("the other")

    with (
        pytest.raises(SidecarError, match="no answer"),
        PassThreads([continue_until_ended, fail]) as threads,
    ):
        threads.wait()
    assert ended == ["the other"]


def test_a_row_is_processed_by_one_pass_at_a_time() -> None:
    memory = RowMemory()
    with memory.claim("account", [1, 2]) as first, memory.claim("account", [2, 3]) as second:
        assert (first, second) == ({1, 2}, {3})
    with memory.claim("account", [2]) as again:
        assert again == {2}


def test_a_quick_pass_reads_only_new_and_changed_rows(system: System) -> None:
    # The third one did not change, but became old enough for the sidecar within the last minute.
    names = [name_for(system, f"look{word}") for word in ("old", "changed", "grown")]
    system.create_users(*names)
    system.application.run(_SET_AGES.format(old=names[0], grown=names[2]))
    adapter = adapter_of(system.application.name)
    with Agent(checkout_of(system.application)) as agent:

        def due(**limits: Any) -> int:
            return count_due(agent, adapter, PassScope(kinds=("account",), **limits))["account"]

        assert due() == 3
        assert due(changed_within_seconds=60.0) == 2  # all but the old one
    system.json("reconcile")  # other tests use the same system and expect no due rows


_SET_AGES = """
from datetime import timedelta
from django.utils import timezone
from users.models import User
ago = lambda **much: timezone.now() - timedelta(**much)
User.objects.filter(username="{old}").update(updated_on=ago(days=1), last_login=ago(days=1))
# This user did not change, but became five minutes old within the last minute.
User.objects.filter(username="{grown}").update(
    updated_on=ago(seconds=320), created_on=ago(seconds=320), last_login=ago(seconds=320))
result = None
"""


def test_the_memory_of_failed_rows_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change of a failing row adds an entry, so memory would grow for ever without a limit."""
    monkeypatch.setattr(summary, "_MAX_PAUSES", 10)
    monkeypatch.setattr(summary, "REFUSED_PAUSE", -1.0)  # each pause has ended when it begins
    memory = RowMemory()
    for number in range(1000):
        memory.record(ENROLLMENT, number, REFUSED)
    # Expired entries are removed once their number has doubled since the last removal.
    assert len(memory._pauses) <= 2 * summary._MAX_PAUSES


@contextmanager
def stopping(ended: Event, *, patience: float) -> Iterator[Stopping]:
    """A batch in progress, during which signals are handled. The handler ends the process by
    setting ``ended``. patience: seconds that the batch may still take after the first signal."""
    handler = Stopping(ended.set, patience)
    with handler.handle_signals(), handler.stop_between_batches():
        yield handler


def test_a_second_signal_ends_the_process_immediately() -> None:
    ended = Event()
    with stopping(ended, patience=600.0):
        os.kill(os.getpid(), signal.SIGTERM)
        assert not ended.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.is_set()


def test_stopping_does_not_wait_for_a_batch_that_never_ends() -> None:
    ended = Event()
    with stopping(ended, patience=0.01):
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.wait(60)


def start_watching(system: System, *options: str) -> subprocess.Popen[str]:
    """Starts ``usher reconcile --watch``, with these further options."""
    return subprocess.Popen(
        reconcile_command(system, "--watch", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_sigterm_ends_watching_after_the_batch_in_progress(system: System) -> None:
    prefix = name_for(system, "term")
    names = [f"{prefix}{number}" for number in range(300)]
    system.create_users(*names)
    watcher = start_watching(system, "--kind", "account")
    wait_until(
        lambda: bool(system.rows(ACCOUNT[system.application.name], "pk", user__username__in=names))
    )
    watcher.send_signal(signal.SIGTERM)
    output, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 0, output
    assert "since the start:\n✓ account" in output
    assert "stopped" in output
    accounts_in_lms = system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={prefix!r}).count())"
    )
    recorded = system.rows(ACCOUNT[system.application.name], "pk", user__username__in=names)
    assert int(accounts_in_lms) == len(recorded)
    system.json("reconcile")  # so that later tests don't find the other accounts due


def test_watching_continues_after_the_lms_was_down(system: System) -> None:
    first, second = name_for(system, "before"), name_for(system, "after")
    with faulty_proxy(system.lms.url) as proxy:
        watcher = start_watching(system, "--lms-url", proxy.url)
        try:
            system.create_users(first)
            wait_until(lambda: len(tokens_of(system, first)) == 1)
            proxy.break_all(UNAVAILABLE)
            system.create_users(second)
            assert watcher.stdout
            assert any("503" in line for line in watcher.stdout)
            proxy.mend()
            wait_until(lambda: len(tokens_of(system, second)) == 1)
        finally:
            watcher.kill()
            watcher.communicate()


def test_a_change_takes_effect_while_a_full_pass_waits_for_the_lms(system: System) -> None:
    first, second = name_for(system, "slowly"), name_for(system, "quickly")
    system.create_users(first)
    system.create_enrollment(first, course_of(system))
    with faulty_proxy(system.lms.url) as proxy:
        proxy.slow_seconds = 600.0  # longer than the test waits
        proxy.break_all(SLOW, path="/api/courses/")
        watcher = start_watching(system, "--lms-url", proxy.url)
        try:
            wait_until(lambda: proxy.count("/api/courses/") > 0)
            system.create_users(second)
            wait_until(lambda: len(tokens_of(system, second)) == 1)
        finally:
            watcher.kill()
            output, _ = watcher.communicate()
    # The full pass was still waiting: it had not failed.
    assert "trying again" not in output


@only_for("mitxonline")
def test_a_row_reset_by_staff_is_retried_immediately(system: System) -> None:
    """This includes rows that an action of the admin reset in a bulk update, which changes no
    timestamp."""
    name, rows = name_for(system, "setback"), "courses.CourseRunEnrollment"
    system.create_users(name)
    system.create_enrollment(name, "course-v1:set+back+run")

    def attempts() -> int:
        ((number,),) = system.rows(rows, "edx_enrollment_retry_count", user__username=name)
        return int(number)

    watcher = start_watching(system)
    try:
        wait_until(lambda: attempts() == 1)
        system.application.run(
            "from datetime import timedelta\n"
            "from django.utils import timezone\n"
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(\n"
            "    edx_enrollment_retry_count=0, updated_on=timezone.now() - timedelta(days=2))\n"
            "result = None"
        )
        wait_until(lambda: attempts() == 1)
    finally:
        watcher.kill()
        watcher.communicate()
    system.deactivate_enrollments(name)
