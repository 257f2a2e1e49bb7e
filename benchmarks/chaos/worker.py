"""A Celery worker as in production, whose clock can be changed. Its arguments are those of
``celery``.

``CHAOS_HURRY`` divides the pauses between attempts, so that short runs end soon.
"""

from __future__ import annotations

import os
import sys

from benchmarks.chaos import clock


def main() -> None:
    clock.inject()
    hurry = float(os.environ.get("CHAOS_HURRY", "1"))
    from usher.engine import gate, policy

    policy.FIRST_DELAY /= hurry
    policy.SYSTEMIC_DELAY /= hurry
    policy.LONGEST_DELAY /= hurry
    gate._FIRST /= hurry
    from celery.__main__ import main as celery

    sys.argv[0] = "celery"
    celery()


if __name__ == "__main__":
    main()
