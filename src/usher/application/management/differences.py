"""How ``drift`` and a dry run of ``reconcile`` show what differs from the LMS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from usher.application.engine.drift import Difference


def line_of(difference: Difference) -> str:
    note = f"\n    {difference.note}" if difference.note else ""
    return (
        f"✗ {difference.kind} {difference.what} {difference.field}: "
        f"{difference.here or '–'} here, {difference.there or '–'} in the LMS{note}"
    )


def rows_of(found: Iterable[Difference]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]
