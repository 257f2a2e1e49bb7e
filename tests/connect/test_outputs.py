"""How connect interprets the output of the applications' commands."""

import json

import pytest

from usher.connect import outputs
from usher.connect.errors import ToolFailed
from usher.connect.process import Output

REPAIR = "repair_missing_courseware_records"


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected_outcome", "expected_text"),
    [
        (
            "Repairing 12 users\nRepair Complete: 0 repaired, 12 failures\n",
            "ada (a@x.org): Failed to repair (Response - code: 403, content: no)\n",
            "failed",
            "none of 12 learners could be repaired: Response - code: 403",
        ),
        (
            "Repair Complete: 4 repaired, 1 failures\n",
            "ada (a@x.org): Failed to repair (Response - code: 409, content: taken)\n",
            "warning",
            "4 repaired, 1 not repaired: Response - code: 409",
        ),
        ("Repairing 0 users\nRepair Complete: 0 repaired, 0 failures\n", "", "skipped", "nobody"),
        ("Repair Complete: 3 repaired, 0 failures\n", "", "ok", "3 repaired, no failures"),
        ("Created edX user for ada\nDone\n", "", "ok", "Done"),
    ],
)
def test_the_output_of_a_repair_command_becomes_a_check(
    stdout: str, stderr: str, expected_outcome: str, expected_text: str
):
    check = outputs.check_of_repair(REPAIR, Output(stdout, stderr))
    assert check.outcome == expected_outcome, check
    assert expected_text in check.seen


@pytest.mark.parametrize(
    ("stdout", "expected_outcome", "expected_text"),
    [
        ("Sync complete: 2 updated, 0 failures", "ok", "2 course runs read"),
        ("Sync complete: 0 updated, 0 failures, 7 unchanged.", "ok", "7 course runs read"),
        ("Sync complete: 0 updated, 3 failures", "warning", "3 not read"),
        ("Sync complete: 0 updated, 0 failures", "skipped", "none differs"),
    ],
)
def test_the_output_of_a_sync_command_becomes_a_check(
    stdout: str, expected_outcome: str, expected_text: str
):
    check = outputs.check_of_sync("sync_courserun", Output(stdout))
    assert check.outcome == expected_outcome, check
    assert expected_text in check.seen


@pytest.mark.parametrize(
    ("error_text", "expected_outcome", "expected_text"),
    [
        (
            "ended with 1:\n  Traceback (most recent call last):\n"
            "  AttributeError: type object 'User' has no attribute 'faulty'",
            "warning",
            "crashes: AttributeError: type object 'User'",
        ),
        (
            "ended with 1:\n  django.core.exceptions.FieldError: Cannot resolve keyword 'x'",
            "warning",
            "crashes: FieldError",
        ),
        (
            "ended with 1:\n  Traceback (most recent call last):\n"
            "  ValueError: chunk_size must be provided when using QuerySet.iterator()",
            "warning",
            "crashes: ValueError: chunk_size",
        ),
        ("manage.py: error: unrecognized arguments: --all ALL", "warning", "--all ALL"),
        ("ended with 1:\n  requests.exceptions.ConnectionError: refused", "failed", "refused"),
        ("ended with 1:\n  CommandError: 2 users failed", "failed", "2 users failed"),
    ],
)
def test_the_output_of_a_failing_command_becomes_a_check(
    error_text: str, expected_outcome: str, expected_text: str
):
    check = outputs.check_of_failure("repair", REPAIR, ToolFailed(error_text, exit_code=1))
    assert check.outcome == expected_outcome, check
    assert expected_text in check.seen


@pytest.mark.parametrize(
    ("classes", "failed", "expected_outcome"),
    [
        ([], 0, "ok"),
        (["systemic"], 0, "failed"),  # a list that was not read, which counts as no row
        (["rejected"], 1, "warning"),
        (["rejected", "systemic"], 2, "failed"),
        (["rejected"], 2, "failed"),  # the output has more failures than it lists
    ],
)
def test_learners_whom_the_lms_refuses_give_only_a_warning(
    classes: list[str], failed: int, expected_outcome: str
):
    failures = [
        {
            "failure_class": failure_class,
            "what": "ada",
            "message": "e-mail taken",
            "code": "duplicate-email",
        }
        for failure_class in classes
    ]
    summary = {"changed": 3, "unchanged": 2, "failed": failed, "failures": failures}
    check = outputs.check_of_summary("repair", REPAIR, f"noise\n{json.dumps(summary)}\n")
    assert check is not None
    assert check.outcome == expected_outcome
    assert "3 changed, 2 unchanged" in check.seen


@pytest.mark.parametrize("text", ["", "Done", "[]", '{"failed": 1}', '"x"'])
def test_output_in_another_format_gives_no_check(text: str):
    assert outputs.check_of_summary("repair", REPAIR, text) is None
