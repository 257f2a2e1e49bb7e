"""How hard the engine works, from Django's settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings


@dataclass(frozen=True)
class Options:
    """concurrency: requests to the other system at a time, of one process. lease_seconds: for
    which a claimed row is held without a sign of life. stop_seconds: how long a worker that is
    told to stop waits for answers."""

    concurrency: int
    lease_seconds: float
    stop_seconds: float = 20.0


def options() -> Options:
    """``USHER_CONCURRENCY``, ``USHER_LEASE_SECONDS`` and ``USHER_STOP_SECONDS``."""
    return Options(
        concurrency=int(getattr(django_settings, "USHER_CONCURRENCY", 32)),
        lease_seconds=float(getattr(django_settings, "USHER_LEASE_SECONDS", 60)),
        stop_seconds=float(getattr(django_settings, "USHER_STOP_SECONDS", 20)),
    )
