"""How this application treats the LMS, from Django's settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

APPLICATION, LMS = "application", "lms"


@dataclass(frozen=True)
class LmsOptions:
    """use_batch_api: use ``usher.lms`` where it answers. enrollment_winner: who is right when the
    LMS changed an enrollment by itself. adopt_enrollments: enrollments that were made in the LMS
    are recorded here. account_winner: who is right when the LMS deactivated an account that is
    active here."""

    use_batch_api: bool
    enrollment_winner: str
    account_winner: str = LMS
    adopt_enrollments: bool = True


def options() -> LmsOptions:
    """``USHER_USE_BATCH_API``, ``USHER_ENROLLMENT_WINNER`` and ``USHER_ACCOUNT_WINNER``
    (``application`` or ``lms``), and ``USHER_ADOPT_ENROLLMENTS``."""
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
