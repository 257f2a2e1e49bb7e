"""Settings that decide which changes are sent to the LMS and which are copied from the LMS."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

#: The values of the two settings which say whose state is kept.
APPLICATION, LMS = "application", "lms"


@dataclass(frozen=True)
class LmsOptions:
    """use_batch_api: use ``usher.lms`` if the LMS has it. enrollment_winner: whose state is kept
    when an enrollment was changed in the LMS. account_winner: whose state is kept when an account
    was deactivated in the LMS. adopt_enrollments: record enrollments that were made in the LMS. The
    winners are ``application`` or ``lms``."""

    use_batch_api: bool
    enrollment_winner: str
    account_winner: str = LMS
    adopt_enrollments: bool = True


def options() -> LmsOptions:
    """Reads ``USHER_USE_BATCH_API``, ``USHER_ENROLLMENT_WINNER``, ``USHER_ACCOUNT_WINNER`` and
    ``USHER_ADOPT_ENROLLMENTS``. Raises ImproperlyConfigured for an unknown winner."""
    return LmsOptions(
        use_batch_api=bool(getattr(django_settings, "USHER_USE_BATCH_API", True)),
        enrollment_winner=_winner("USHER_ENROLLMENT_WINNER", APPLICATION),
        account_winner=_winner("USHER_ACCOUNT_WINNER", LMS),
        adopt_enrollments=bool(getattr(django_settings, "USHER_ADOPT_ENROLLMENTS", True)),
    )


def _winner(name: str, default: str) -> str:
    winner = getattr(django_settings, name, default)
    if winner not in (APPLICATION, LMS):
        raise ImproperlyConfigured(f"{name} is {winner!r}: write {APPLICATION} or {LMS}.")
    return winner
