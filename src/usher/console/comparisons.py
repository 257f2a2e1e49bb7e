"""Compares one value of this application with the LMS's value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """A value in this application and in the LMS, as last seen there. subject: what is compared,
    for people. wanted, seen: the two values. differs: None when unknown. advice: what to do about a
    difference. record: kind and key of the record."""

    subject: str
    wanted: str
    seen: str
    differs: bool | None
    advice: str = ""
    record: tuple[str, int] | None = None


def compare_fields(here: Any, there: Any, fields: Iterable[tuple[str, str]]) -> list[Comparison]:
    """Compares attributes of two objects. fields: pairs of a title and the attribute's name."""
    return [
        compare_values(title, getattr(here, name), getattr(there, name)) for title, name in fields
    ]


def compare_values(subject: str, here: Any, there: Any) -> Comparison:
    return Comparison(subject, _text(here), _text(there), here != there)


def _text(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else str(value or "–")
