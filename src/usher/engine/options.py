"""The engine's own settings: concurrency, leases, and the time for stopping."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings


@dataclass(frozen=True)
class Options:
    """concurrency: concurrent requests of one process to the other system. lease_seconds: how long
    a claimed row stays claimed unless its worker renews the lease. stop_seconds: how long a worker
    that is told to stop waits for answers."""

    concurrency: int
    lease_seconds: float
    stop_seconds: float = 20.0


def options() -> Options:
    """Reads ``USHER_CONCURRENCY``, ``USHER_LEASE_SECONDS`` and ``USHER_STOP_SECONDS``. Raises
    ValueError for a value that is not a number."""
    return Options(
        concurrency=int(getattr(django_settings, "USHER_CONCURRENCY", 32)),
        lease_seconds=float(getattr(django_settings, "USHER_LEASE_SECONDS", 60)),
        stop_seconds=float(getattr(django_settings, "USHER_STOP_SECONDS", 20)),
    )
