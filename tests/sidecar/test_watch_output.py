"""What ``usher reconcile --watch`` prints in an outage: that it began, and that it ended."""

import pytest

from usher.sidecar.summary import DONE, FAILED, REFUSED, Summary
from usher.sidecar.watch_output import WatchOutput


@pytest.fixture
def output() -> WatchOutput:
    return WatchOutput(as_json=False)


def printed_text(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def summary_of(*results: tuple[str, str]) -> Summary:
    """A summary with a row of another learner for each (kind, result). The reason of a row that is
    not done has its own number, from 500."""
    summary = Summary()
    for number, (kind, result) in enumerate(results):
        reason = "" if result == DONE else f"The LMS failed with {500 + number}."
        summary.add(kind, result, f"learner{number}@example.org", reason)
    return summary


def test_failures_of_all_rows_of_a_kind_are_printed_once_until_it_succeeds(
    output: WatchOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same failures in five passes.
    for _ in range(5):
        output.print_summary(summary_of(("account", FAILED), ("account", FAILED)))
    text = printed_text(capsys)
    assert text.startswith("✗ account 2 failed: learner0@example.org: The LMS failed with 500.")
    assert text.count("failed:") == 1
    assert "usher doctor" in text
    # Another kind begins to fail.
    output.print_summary(summary_of(("enrollment", FAILED)))
    assert printed_text(capsys).startswith("✗ enrollment 1 failed: ")
    # The first kind succeeds again, and fails again.
    for _ in range(2):
        output.print_summary(summary_of(("account", DONE)))
    text = printed_text(capsys)
    assert text.startswith("✓ account succeeds again after 0 s ✓ account 1 done")
    assert text.count("again") == 1
    output.print_summary(summary_of(("account", FAILED)))
    assert "1 failed: " in printed_text(capsys)


def test_results_of_other_rows_and_refusals_are_printed_during_an_outage(
    output: WatchOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_summary(summary_of(("account", FAILED)))
    printed_text(capsys)
    output.print_summary(
        summary_of(("account", FAILED), ("enrollment", DONE), ("profile", REFUSED))
    )
    text = printed_text(capsys)
    assert "✓ enrollment 1 done" in text
    assert "✗ refused profile learner2@example.org" in text
    assert "account" not in text
    output.print_summary(summary_of(("account", FAILED), ("account", REFUSED)))
    text = printed_text(capsys)
    assert "account succeeds again" in text
    assert "1 refused, 1 failed" in text


def test_the_same_trouble_is_printed_once(
    output: WatchOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same trouble three times, in two wordings.
    for wait in (2.0, 4.0, 8.0):
        output.print_trouble("The LMS refuses access (401).", wait=wait)
        output.print_trouble("The LMS could not be asked: The LMS refuses access (401).", wait=wait)
    assert printed_text(capsys).count("401") == 1
    output.print_trouble("The application's manage.py failed.", wait=8.0)
    assert "manage.py failed; trying again" in printed_text(capsys)
    # After a new start, the first trouble is printed again.
    output.print_start("MITx Online", "http://lms")
    assert (
        "MITx Online: watching again after 0 s, every second; the LMS is http://lms."
        in printed_text(capsys)
    )
    output.print_trouble("The LMS refuses access (401).", wait=2.0)
    assert "401" in printed_text(capsys)
