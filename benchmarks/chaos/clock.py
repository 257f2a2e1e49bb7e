"""Changes a process's clock while it runs: ``CHAOS_CLOCK`` names a file with the seconds to add.

Replaces Django's ``timezone.now`` before any model uses it as a default.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

#: The environment variable with the name of the file.
VARIABLE = "CHAOS_CLOCK"
_SECONDS_BETWEEN_READS = 0.1


def inject() -> None:
    """Replaces Django's clock by one that differs from it by the seconds in the file
    ``CHAOS_CLOCK``. Does nothing in a process without this variable."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    from django.utils import timezone

    real_now = timezone.now
    file = Path(path)
    offset_seconds = 0.0
    read_at = 0.0

    def changed_now() -> datetime:
        nonlocal offset_seconds, read_at
        if time.monotonic() - read_at > _SECONDS_BETWEEN_READS:
            text = file.read_text() if file.exists() else ""
            offset_seconds = float(text or 0)
            read_at = time.monotonic()
        return real_now() + timedelta(seconds=offset_seconds)

    timezone.now = changed_now
