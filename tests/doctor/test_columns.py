"""Columns that are too short for the UUIDs that Django 5 writes on MariaDB."""

from types import SimpleNamespace
from typing import Any

import pytest

from usher.contract.report import Column
from usher.doctor.check import Finding, Status, all_checks
from usher.doctor.facts.memo import NotKnownError

HISTORY_COLUMN = Column(table="student_courseenrollment_history", column="history_id", null=False)
OTHER_COLUMN = Column(table="a_table", column="batch", null=True)


def check_columns(**report: Any) -> Finding:
    context: Any = SimpleNamespace(lms=SimpleNamespace(report=report))
    return all_checks()["LMS-11"]().probe(context)


def test_short_columns_are_named_with_the_statements_that_convert_them() -> None:
    """The history of enrollments comes first, because each enrollment writes to it."""
    finding = check_columns(short_uuid_columns=[OTHER_COLUMN, HISTORY_COLUMN])
    assert finding.status is Status.FAILED
    assert finding.seen.startswith("2 columns are too short")
    assert finding.fix.endswith(
        "ALTER TABLE student_courseenrollment_history MODIFY history_id uuid NOT NULL; "
        "ALTER TABLE a_table MODIFY batch uuid;"
    )


def test_lms_11_passes_without_short_columns_and_is_unknown_without_a_report() -> None:
    assert check_columns(short_uuid_columns=[]).status is Status.OK
    with pytest.raises(NotKnownError):
        check_columns()
