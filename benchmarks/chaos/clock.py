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


def inject() -> None:
    """Replaces Django's clock by one that differs from it by the seconds in the file
    ``CHAOS_CLOCK``. Does nothing in a process without this variable."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    from django.utils import timezone

    real_now, file = timezone.now, Path(path)
    cached = {"read_at": 0.0, "offset": 0.0}

    def now() -> datetime:
        if time.monotonic() - cached["read_at"] > 0.1:  # reads the file at most ten times a second
            text = file.read_text() if file.exists() else ""
            cached["offset"], cached["read_at"] = float(text or 0), time.monotonic()
        return real_now() + timedelta(seconds=cached["offset"])

    timezone.now = now
