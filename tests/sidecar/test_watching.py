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

from tests.sidecar.conftest import Sides, checkout_of
from tests.sidecar.test_drift import course_of
from tests.sidecar.test_reconcile import ACCOUNT, _command, _until, only, stem, tokens
from tests.support.faults import SLOW, UNAVAILABLE, faulty_proxy
from usher.client.errors import Throttled
from usher.sidecar import outcome
from usher.sidecar.accounts import ACCOUNT as ACCOUNT_KIND
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.enrollments import ENROLLMENT
from usher.sidecar.errors import SidecarError
from usher.sidecar.outcome import DONE, FAILED, REFUSED, Memory, Outcome
from usher.sidecar.process import Agent
from usher.sidecar.reconcile import Scope, count_due
from usher.sidecar.runs import RUN
from usher.sidecar.watched import Watched
from usher.sidecar.watching import (
    COMPARED_EVERY,
    EVERY,
    QUICK_REST,
    WHOLE_REST,
    Looking,
    QuickLooks,
    Stopping,
    Watching,
    WholeLooks,
)


def test_a_quick_look_is_at_what_changed_since_the_one_before() -> None:
    quick = QuickLooks(Scope())
    first = quick.next(1000.0)
    assert first.changed_in is not None
    quick.done(1000.0, 0.01)
    # Also if the application or the LMS did not answer in between.
    later = quick.next(1200.0)
    assert later.changed_in is not None
    assert later.changed_in > 200.0


def test_a_slow_look_is_made_less_often() -> None:
    quick, whole = QuickLooks(Scope()), WholeLooks(Scope(kinds=(ACCOUNT_KIND,)))
    assert quick.done(1000.0, 0.01) == EVERY
    assert quick.done(1000.0, 3.0) == 3.0 * QUICK_REST
    whole.done(ACCOUNT_KIND, 1000.0, 1040.0, 30.0)
    assert whole.next(1040.0 + 30.0 * WHOLE_REST - 1.0) is None
    assert whole.next(1040.0 + 30.0 * WHOLE_REST) == ACCOUNT_KIND


def test_a_rate_limit_of_the_lms_stops_only_the_look_that_meets_it() -> None:
    """A stock LMS counts enrollments and requests for course runs together, with another limit."""
    limited = [Throttled("Rate limited by the LMS (courses).", retry_after=0.01)]
    told: list[Outcome] = []

    def reconcile(_sides: Any, _scope: Scope, found: Outcome) -> None:
        if limited:
            raise limited.pop()
        found.add(RUN, DONE, "course-v1:a+b+c")

    sides: Any = SimpleNamespace(
        agent=SimpleNamespace(busy=0.0), adapter=SimpleNamespace(title="MIT xPro")
    )
    scope = Scope(kinds=(RUN,))
    watching = Watching(scope, Watched(), told.append)
    with patch("usher.sidecar.watching.reconcile", reconcile):
        assert watching._look(sides, scope, Looking([])) == 0.0
    first, second = (each.as_data()["kinds"][RUN] for each in told)
    assert (first[FAILED], second[DONE]) == (1, 1)


def test_a_slow_lms_does_not_make_looks_less_frequent() -> None:
    whole = WholeLooks(Scope(kinds=(ACCOUNT_KIND,)))
    whole.done(ACCOUNT_KIND, 1000.0, 1900.0, 0.01)
    assert whole.next(1900.0 + EVERY) == ACCOUNT_KIND


def test_whole_looks_take_a_kind_at_a_time_and_the_lms_s_own_now_and_then() -> None:
    whole, looked = WholeLooks(Scope()), []
    while kind := whole.next(1000.0):
        looked.append(kind)
        whole.done(kind, 1000.0, 1000.1, 0.01)
    assert looked == ["account", "enrollment", "run", "run-mode"]
    assert whole.next(1000.1 + EVERY) == "account"
    for kind in ("account", "enrollment"):
        whole.done(kind, 1000.0 + COMPARED_EVERY, 1000.0 + COMPARED_EVERY, 0.01)
    assert whole.next(1000.0 + COMPARED_EVERY) == "run"


def test_failed_rows_wait_longer_each_time_and_changed_rows_do_not_wait() -> None:
    memory = Memory()
    assert memory.is_due("account", "ada@old")
    for _ in range(3):
        memory.met("account", "ada@old", FAILED)
    assert not memory.is_due("account", "ada@old")
    memory.met("account", "ada@old", REFUSED)
    assert not memory.is_due("account", "ada@old")
    assert memory.is_due("account", "ada@new")
    memory.met("account", "ada@old", DONE)
    assert memory.is_due("account", "ada@old")


def test_a_look_that_fails_ends_them_all() -> None:
    ended = []

    def fail(looking: Looking) -> None:
        raise SidecarError("no answer")

    def go_on(looking: Looking) -> None:
        try:
            while True:
                looking.rest(0.01)
        finally:
            ended.append("the other")

    with pytest.raises(SidecarError, match="no answer"), Looking([go_on, fail]) as looking:
        looking.wait()
    assert ended == ["the other"]


def test_a_row_is_processed_by_one_look_at_a_time() -> None:
    memory = Memory()
    with memory.taken("account", [1, 2]) as first, memory.taken("account", [2, 3]) as second:
        assert (first, second) == ({1, 2}, {3})
    with memory.taken("account", [2]) as again:
        assert again == {2}


def test_a_look_at_what_changed_sees_new_and_changed_rows_alone(sides: Sides) -> None:
    names = [stem(sides, f"look{word}") for word in ("old", "changed", "grown")]
    sides.people(*names)
    sides.shape.run(_AGES.format(old=names[0], grown=names[2]))
    adapter = adapter_of(sides.shape.name)
    with Agent(checkout_of(sides.shape)) as agent:

        def due(**asked: Any) -> int:
            return count_due(agent, adapter, Scope(kinds=("account",), **asked))["account"]

        assert due() == 3
        assert due(changed_in=60.0) == 2
    sides.json("reconcile")


_AGES = """
from datetime import timedelta
from django.utils import timezone
from users.models import User
ago = lambda **much: timezone.now() - timedelta(**much)
User.objects.filter(username="{old}").update(updated_on=ago(days=1), last_login=ago(days=1))
# Nothing changed since, but it is five minutes old only now.
User.objects.filter(username="{grown}").update(
    updated_on=ago(seconds=320), created_on=ago(seconds=320), last_login=ago(seconds=320))
result = None
"""


def test_rows_that_failed_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change of a failing row makes another entry, so their number would grow without
    limit."""
    monkeypatch.setattr(outcome, "_MOST_RESTS", 10)
    monkeypatch.setattr(outcome, "REST", -1.0)
    memory = Memory()
    for number in range(1000):
        memory.met(ENROLLMENT, number, REFUSED)
    assert len(memory._rests) <= 20


@contextmanager
def stopping(patience: float, ended: Event) -> Iterator[Stopping]:
    made = Stopping(ended.set, patience)
    with made.listening(), made.batches():
        yield made


def test_a_second_signal_ends_it_at_once() -> None:
    ended = Event()
    with stopping(600.0, ended):
        os.kill(os.getpid(), signal.SIGTERM)
        assert not ended.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.is_set()


def test_a_batch_that_never_ends_is_not_waited_for() -> None:
    ended = Event()
    with stopping(0.01, ended):
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.wait(60)


def watching(sides: Sides, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(sides, "--watch", *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_sigterm_ends_it_after_the_batch_under_way(sides: Sides) -> None:
    names = [stem(sides, f"term{number}") for number in range(300)]
    sides.people(*names)
    watcher = watching(sides, "--kind", "account")
    _until(lambda: bool(sides.rows(ACCOUNT[sides.shape.name], "pk", user__username__in=names)))
    watcher.send_signal(signal.SIGTERM)
    said, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 0, said
    assert "since the start:\n✓ account" in said
    assert "stopped" in said
    there = sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={names[0][:-1]!r}).count())"
    )
    recorded = sides.rows(ACCOUNT[sides.shape.name], "pk", user__username__in=names)
    assert int(there) == len(recorded)
    sides.json("reconcile")


def test_watching_continues_after_the_lms_was_down(sides: Sides) -> None:
    first, second = stem(sides, "before"), stem(sides, "after")
    with faulty_proxy(sides.lms.url) as proxy:
        watcher = watching(sides, "--lms-url", proxy.url)
        try:
            sides.people(first)
            _until(lambda: len(tokens(sides, first)) == 1)
            proxy.break_all(UNAVAILABLE)
            sides.people(second)
            assert watcher.stdout
            assert any("503" in line for line in watcher.stdout)
            proxy.mend()
            _until(lambda: len(tokens(sides, second)) == 1)
        finally:
            watcher.kill()
            watcher.communicate()


def test_a_change_is_picked_up_while_a_whole_look_waits_for_the_lms(sides: Sides) -> None:
    first, second = stem(sides, "slowly"), stem(sides, "quickly")
    sides.people(first)
    sides.enroll(first, course_of(sides))
    with faulty_proxy(sides.lms.url) as proxy:
        proxy.slow_seconds = 600.0
        proxy.break_all(SLOW, path="/api/courses/")
        watcher = watching(sides, "--lms-url", proxy.url)
        try:
            _until(lambda: proxy.count("/api/courses/") > 0)
            sides.people(second)
            _until(lambda: len(tokens(sides, second)) == 1)
        finally:
            watcher.kill()
            said, _ = watcher.communicate()
    assert "trying again" not in said


@only("mitxonline")
def test_a_row_reset_by_staff_is_retried_at_once(sides: Sides) -> None:
    """By a bulk update, as in the application's admin, which changes no timestamp."""
    name, rows = stem(sides, "setback"), "courses.CourseRunEnrollment"
    sides.people(name)
    sides.enroll(name, "course-v1:set+back+run")

    def attempts() -> int:
        ((number,),) = sides.rows(rows, "edx_enrollment_retry_count", user__username=name)
        return int(number)

    watcher = watching(sides)
    try:
        _until(lambda: attempts() == 1)
        sides.shape.run(
            "from datetime import timedelta\n"
            "from django.utils import timezone\n"
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(\n"
            "    edx_enrollment_retry_count=0, updated_on=timezone.now() - timedelta(days=2))\n"
            "result = None"
        )
        _until(lambda: attempts() == 1)
    finally:
        watcher.kill()
        watcher.communicate()
    sides.shape.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(active=False)\n"
        "result = None"
    )
