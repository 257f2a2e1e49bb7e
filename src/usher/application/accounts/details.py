"""A learner's e-mail, full name and country for the LMS, as the project's adapter gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usher.application.accounts.naming import clean_full_name
from usher.application.adapter import adapter

#: For a learner without a full name whose username is an e-mail address.
_NEUTRAL_NAME = "Learner"


@dataclass(frozen=True)
class Details:
    """country: ISO 3166-1 alpha-2 code; '' for an unknown country."""

    email: str
    name: str
    country: str


def details(user: Any) -> Details:
    """The learner's details. Raises AdapterFailed.

    The LMS requires a full name and shows it to other learners. A learner without a name gets a
    neutral one, never the e-mail address.
    """
    project_adapter = adapter()
    country = project_adapter.country(user)
    return Details(
        email=project_adapter.email(user),
        name=full_name(user),
        country=country if len(country) == 2 else "",
    )


def full_name(user: Any) -> str:
    """The full name for registration, the profile and sign-in. Raises AdapterFailed."""
    username = str(user.get_username())
    return clean_full_name(
        adapter().full_name(user), fallback=_NEUTRAL_NAME if "@" in username else username
    )
