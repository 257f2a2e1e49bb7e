"""Rows share an answer with a learner's certificates. A row never uses an answer that is older than
the row's due time."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from usher.application.records.answers import Answers

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Lms:
    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return self.asked


def ask(answers: Answers, lms: Any, *, owner: str, claimed: float, due: float) -> Any:
    return answers.of(
        "ada",
        lms,
        lease_owner=owner,
        claimed_at=NOON + timedelta(seconds=claimed),
        due_since=NOON + timedelta(seconds=due),
    )


def test_rows_of_one_claim_share_an_answer() -> None:
    answers, lms = Answers(), Lms()
    results = [ask(answers, lms, owner="a", claimed=1, due=1) for _ in range(5)]
    assert results == [1] * 5


def test_so_do_rows_that_were_made_due_before_the_first_was_claimed() -> None:
    answers, lms = Answers(), Lms()
    assert ask(answers, lms, owner="a", claimed=10, due=0) == 1
    assert ask(answers, lms, owner="b", claimed=60, due=5) == 1


def test_an_answer_from_before_the_change_is_not_used() -> None:
    answers, lms = Answers(), Lms()
    ask(answers, lms, owner="a", claimed=10, due=0)
    assert ask(answers, lms, owner="b", claimed=60, due=50) == 2
    # The clocks of two servers may differ a little, so this row does not use the earlier answer.
    assert ask(answers, lms, owner="c", claimed=61, due=59.9) == 3


def test_a_failure_is_not_kept() -> None:
    answers, lms = Answers(), Lms()

    def fail() -> None:
        raise ValueError("down")

    with pytest.raises(ValueError, match="down"):
        ask(answers, fail, owner="a", claimed=1, due=0)
    assert ask(answers, lms, owner="a", claimed=1, due=0) == 1


def test_concurrent_callers_wait_for_the_same_answer() -> None:
    answers, started, go = Answers(), threading.Event(), threading.Event()
    found: list[str] = []

    def slow() -> str:
        started.set()
        assert go.wait(90)
        return "first"

    def look(asking: Any) -> None:
        found.append(ask(answers, asking, owner="a", claimed=1, due=0))

    threads = [threading.Thread(target=look, args=(slow,))]
    threads[0].start()
    assert started.wait(90)
    threads.append(threading.Thread(target=look, args=(lambda: "second",)))
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(90)
    assert found == ["first", "first"]
