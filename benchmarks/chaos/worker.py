"""A Celery worker as in production, whose clock can be changed. Its arguments are those of
``celery``.

``CHAOS_PAUSE_DIVISOR`` divides the pauses between attempts, so that short runs end soon.
"""

from __future__ import annotations

import os
import sys

from benchmarks.chaos import clock


def main() -> None:
    clock.inject()
    pause_divisor = float(os.environ.get("CHAOS_PAUSE_DIVISOR", "1"))
    from usher.engine import gate, policy

    policy.FIRST_DELAY /= pause_divisor
    policy.SYSTEMIC_DELAY /= pause_divisor
    policy.LONGEST_DELAY /= pause_divisor
    gate._FIRST_PAUSE_SECONDS /= pause_divisor
    from celery.__main__ import main as celery

    sys.argv[0] = "celery"
    celery()


if __name__ == "__main__":
    main()
