"""What the LMS is told about a learner, read from whatever user model the project has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usher.application.accounts.naming import clean_full_name
from usher.application.adapter import adapter

_NAMELESS = "Learner"


@dataclass(frozen=True)
class Details:
    """country: ISO 3166-1 code, '' when the project doesn't know it."""

    email: str
    name: str
    country: str


def details(user: Any) -> Details:
    """As the project's adapter tells it. The LMS demands a full name, and shows it to others: a
    learner without one gets a neutral name, never the e-mail address that they sign in with."""
    decides = adapter()
    country = decides.country(user)
    return Details(
        email=decides.email(user),
        name=full_name(user),
        country=country if len(country) == 2 else "",
    )


def full_name(user: Any) -> str:
    """What the LMS is told, by every way: registration, profile, sign-in."""
    own = str(user.get_username())
    return clean_full_name(adapter().full_name(user), otherwise=_NAMELESS if "@" in own else own)
