"""Compares one value of this application with the LMS's value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """A value in this application, and the value that was last seen in the LMS.

    subject: the name of the value, for people. differs: None if unknown. advice: what to do about a
    difference. record: kind and key of the record.
    """

    subject: str
    here: str
    in_lms: str
    differs: bool | None
    advice: str = ""
    record: tuple[str, int] | None = None


def compare_fields(here: Any, in_lms: Any, fields: Iterable[tuple[str, str]]) -> list[Comparison]:
    """Compares attributes of two objects. fields: pairs of a title and the attribute's name."""
    return [
        compare_values(title, getattr(here, name), getattr(in_lms, name)) for title, name in fields
    ]


def compare_values(subject: str, here: Any, in_lms: Any) -> Comparison:
    return Comparison(subject, _text(here), _text(in_lms), here != in_lms)


def _text(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else str(value or "–")
