"""Formats differences for ``drift`` and for the dry run of ``reconcile``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from usher.application.lms.drift import Difference
from usher.contract.terminal import wrap


def line_of(difference: Difference) -> str:
    text = (
        f"{difference.kind} {difference.what} {difference.field}: "
        f"{difference.here or '–'} here, {difference.there or '–'} in the LMS"
    )
    note = f"\n    {wrap(difference.note, 4)}" if difference.note else ""
    return f"✗ {wrap(text, 4)}{note}"


def rows_of(differences: Iterable[Difference]) -> list[dict[str, Any]]:
    """The differences for ``--json``."""
    return [asdict(difference) for difference in differences]
