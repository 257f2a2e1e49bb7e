"""What the LMS is told about a learner, read from whatever user model the project has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usher.application.accounts.naming import clean_full_name


@dataclass(frozen=True)
class Details:
    """country: ISO 3166-1 code, '' when the project doesn't know it."""

    email: str
    name: str
    country: str


def details(user: Any) -> Details:
    """Reads ``email``, ``name`` or ``get_full_name()``, and ``country`` where there is one."""
    username = user.get_username()
    name = getattr(user, "name", "") or user.get_full_name() or ""
    country = str(getattr(user, "country", "") or "").strip().upper()
    return Details(
        email=user.email or "",
        name=clean_full_name(str(name), otherwise=username),
        country=country if len(country) == 2 else "",
    )
