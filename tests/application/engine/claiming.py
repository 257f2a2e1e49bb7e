"""Claims rows of the work queue as a worker does."""

from __future__ import annotations

from typing import Any

from usher.engine.claim import Scope, claim
from usher.engine.lanes import Lane
from usher.engine.registry import kind

LEASE_SECONDS = 60.0
#: The duration of a lease that has ended as soon as it begins.
ENDED = -1.0


def claim_rows(
    name: str,
    *,
    limit: int = 1,
    scope: Scope | None = None,
    lease_seconds: float = LEASE_SECONDS,
    lane: Lane | None = None,
) -> list[Any]:
    """Claims at most ``limit`` due rows of the kind ``name``, and returns them. scope: None for
    all rows of the kind. lane: claims only from this lane; None claims from all lanes."""
    # The first value is the owner of the lease, which each row has, too.
    _, rows = claim(kind(name), scope or Scope(), limit, lease_seconds, lane=lane)
    return rows
