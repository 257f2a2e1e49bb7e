"""``usher reconcile --watch``: what each look looks at, and how it ends."""

import signal
import subprocess
from typing import Any

from tests.sidecar.conftest import Sides, checkout_of
from tests.sidecar.test_reconcile import ACCOUNT, _command, _until, stem, tokens
from tests.support.faults import UNAVAILABLE, faulty_proxy
from usher.sidecar.adapters.known import adapter_of
from usher.sidecar.outcome import DONE, Memory, Outcome
from usher.sidecar.process import Agent
from usher.sidecar.reconcile import Asked, count_due
from usher.sidecar.watching import ALL_EVERY, EVERY, RUN_MODES_EVERY, Looks


def outcome(**done: int) -> Outcome:
    found = Outcome()
    for kind, number in done.items():
        found.numbers[kind, DONE] = number
    return found


KINDS = {"account", "enrollment", "run", "run-mode"}


def test_the_first_look_is_at_everything_and_the_next_ones_at_what_changed() -> None:
    looks = Looks(Asked())
    first = looks.next(1000.0)
    assert {kind for kind in KINDS if first.changed(kind) is None} == KINDS
    assert looks.done(first, outcome(), 1000.0, 1000.5, 0.1) == EVERY

    second = looks.next(1002.5)
    for kind in KINDS:
        assert second.takes(kind)
        seconds = second.changed(kind)
        assert seconds is not None and seconds > 2.5


def test_everything_is_looked_at_now_and_then() -> None:
    looks = Looks(Asked())
    looks.done(looks.next(1000.0), outcome(), 1000.0, 1000.5, 0.1)
    again = looks.next(1000.0 + ALL_EVERY)
    assert set(again.whole) == {"account", "enrollment", "run"}
    looks.done(again, outcome(), 1000.0 + ALL_EVERY, 1001.0 + ALL_EVERY, 0.1)
    assert "run-mode" in looks.next(1000.0 + RUN_MODES_EVERY).whole


def test_a_look_that_takes_long_comes_less_often() -> None:
    looks = Looks(Asked())
    rest = looks.done(looks.next(1000.0), outcome(), 1000.0, 1040.0, 30.0)
    assert rest == 120.0
    assert looks.next(1000.0 + ALL_EVERY).changed("account") is not None


def test_a_slow_lms_makes_no_look_rarer() -> None:
    looks = Looks(Asked())
    assert looks.done(looks.next(1000.0), outcome(), 1000.0, 1030.0, 0.1) == EVERY


def test_a_learner_s_older_enrollments_are_found_when_the_account_is_made() -> None:
    looks = Looks(Asked())
    looks.done(looks.next(1000.0), outcome(), 1000.0, 1000.5, 0.1)
    looks.done(looks.next(1004.0), outcome(account=1), 1004.0, 1004.5, 0.1)
    assert looks.next(1007.0).changed("enrollment") is None


def test_after_an_outage_the_look_goes_back_to_before_it() -> None:
    looks = Looks(Asked())
    looks.done(looks.next(1000.0), outcome(), 1000.0, 1000.5, 0.1)
    recent = looks.next(1200.0).changed("account")
    assert recent is not None and recent > 200.0


def test_in_the_middle_of_a_long_look_what_changed_is_looked_at() -> None:
    looks = Looks(Asked())
    long = looks.next(1000.0)
    assert looks.short(1000.0 + EVERY / 2) is None
    short = looks.short(1000.0 + EVERY)
    assert short is not None
    for kind in KINDS:
        assert short.changed(kind) is not None
    looks.short_done(outcome(account=1), 1000.5 + EVERY, 0.1)
    assert looks.short(1001.0 + EVERY) is None
    later = looks.short(1100.0)
    assert later is not None
    seconds = later.changed("account")
    assert seconds is not None and seconds > 100.0 - EVERY
    looks.done(long, outcome(), 1000.0, 1130.0, 0.1)
    # Of those who got an account meanwhile the enrollments, however old, are due.
    assert looks.next(1140.0).changed("enrollment") is None


def test_of_two_looks_one_works_on_a_row() -> None:
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
            return count_due(agent, adapter, Asked(kinds=("account",), **asked))["account"]

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
    assert "stopped" in said
    there = sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={names[0][:-1]!r}).count())"
    )
    recorded = sides.rows(ACCOUNT[sides.shape.name], "pk", user__username__in=names)
    assert int(there) == len(recorded)
    sides.json("reconcile")


def test_it_goes_on_after_the_lms_was_away(sides: Sides) -> None:
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
