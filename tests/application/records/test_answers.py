"""Rows share an answer with a learner's certificates. A row never uses an answer that is older than
the row's due time."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.application.conftest import LONGEST_WAIT
from usher.application.records.answers import Answers

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class CountingLms:
    """An LMS whose answer is the number of requests so far: 1, 2, 3 …"""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self) -> int:
        self.requests += 1
        return self.requests


def ask(answers: Answers, lms: Any, *, owner: str, claimed: float, due: float) -> Any:
    """Asks for the answer for one row and returns it: with ``CountingLms``, the number of the
    request that it came from. owner: of the row's claim. claimed, due: seconds after ``NOON``."""
    return answers.get_or_request(
        "ada",
        lms,
        lease_owner=owner,
        claimed_at=NOON + timedelta(seconds=claimed),
        due_since=NOON + timedelta(seconds=due),
    )


def test_rows_of_one_claim_share_an_answer() -> None:
    answers, lms = Answers(), CountingLms()
    results = [ask(answers, lms, owner="a", claimed=1, due=1) for _ in range(5)]
    assert results == [1] * 5


def test_rows_share_an_answer_if_they_were_due_before_the_first_was_claimed() -> None:
    answers, lms = Answers(), CountingLms()
    assert ask(answers, lms, owner="a", claimed=10, due=0) == 1
    assert ask(answers, lms, owner="b", claimed=60, due=5) == 1


def test_a_row_that_became_due_after_an_answer_gets_a_new_answer() -> None:
    answers, lms = Answers(), CountingLms()
    ask(answers, lms, owner="a", claimed=10, due=0)
    assert ask(answers, lms, owner="b", claimed=60, due=50) == 2
    # The clocks of two servers may differ a little, so this row does not use the earlier answer.
    assert ask(answers, lms, owner="c", claimed=61, due=59.9) == 3


def test_a_failed_request_is_repeated_for_the_next_row() -> None:
    answers, lms = Answers(), CountingLms()

    def fail() -> None:
        raise ValueError("down")

    with pytest.raises(ValueError, match="down"):
        ask(answers, fail, owner="a", claimed=1, due=0)
    assert ask(answers, lms, owner="a", claimed=1, due=0) == 1


def test_concurrent_callers_wait_for_the_same_answer() -> None:
    answers, started, may_answer = Answers(), threading.Event(), threading.Event()
    results: list[str] = []

    def answer_slowly() -> str:
        started.set()
        assert may_answer.wait(LONGEST_WAIT)
        return "first"

    def store_result(lms: Any) -> None:
        results.append(ask(answers, lms, owner="a", claimed=1, due=0))

    first_caller = threading.Thread(target=store_result, args=(answer_slowly,))
    first_caller.start()
    assert started.wait(LONGEST_WAIT)
    is_asked_again = threading.Event()

    def answer_again() -> str:
        is_asked_again.set()
        return "second"

    second_caller = threading.Thread(target=store_result, args=(answer_again,))
    second_caller.start()
    # Long enough for the second caller to ask the LMS, if it did not wait for the first one.
    assert not is_asked_again.wait(0.2)
    may_answer.set()
    for caller in (first_caller, second_caller):
        caller.join(LONGEST_WAIT)
    assert results == ["first", "first"]
