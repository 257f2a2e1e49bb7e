"""How hard the engine works, from Django's settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

APPLICATION, LMS = "application", "lms"


@dataclass(frozen=True)
class Options:
    """concurrency: requests to the LMS at a time, of one process. lease_seconds: for which a
    claimed row is held without a sign of life. use_batch_api: use ``usher.lms`` where it answers.
    enrollment_winner: who is right when the LMS changed an enrollment by itself.
    adopt_enrollments: enrollments that were made in the LMS are recorded here. stop_seconds: how
    long a worker that is told to stop waits for answers of the LMS. account_winner: who is right
    when the LMS deactivated an account that is active here."""

    concurrency: int
    lease_seconds: float
    use_batch_api: bool
    enrollment_winner: str
    stop_seconds: float = 20.0
    account_winner: str = LMS
    adopt_enrollments: bool = True


def options() -> Options:
    """``USHER_CONCURRENCY``, ``USHER_LEASE_SECONDS``, ``USHER_USE_BATCH_API``,
    ``USHER_ENROLLMENT_WINNER`` and ``USHER_ACCOUNT_WINNER`` (``application`` or ``lms``),
    ``USHER_ADOPT_ENROLLMENTS`` and ``USHER_STOP_SECONDS``."""
    return Options(
        concurrency=int(getattr(django_settings, "USHER_CONCURRENCY", 32)),
        lease_seconds=float(getattr(django_settings, "USHER_LEASE_SECONDS", 60)),
        use_batch_api=bool(getattr(django_settings, "USHER_USE_BATCH_API", True)),
        enrollment_winner=_winner("USHER_ENROLLMENT_WINNER", APPLICATION),
        stop_seconds=float(getattr(django_settings, "USHER_STOP_SECONDS", 20)),
        account_winner=_winner("USHER_ACCOUNT_WINNER", LMS),
        adopt_enrollments=bool(getattr(django_settings, "USHER_ADOPT_ENROLLMENTS", True)),
    )


def _winner(name: str, default: str) -> str:
    winner = getattr(django_settings, name, default)
    if winner not in (APPLICATION, LMS):
        raise ImproperlyConfigured(f"{name} is {winner!r}: write {APPLICATION} or {LMS}.")
    return winner
