"""The time of the console's pages with very many learners."""

from __future__ import annotations

from benchmarks.remote_module import RemoteModule
from benchmarks.setup import Setup

#: Milliseconds of server time for any page.
TARGET_MS = 200


def console(setup: Setup, learners: int, refused: int) -> dict[str, float]:
    """Page → median milliseconds of server time. refused: number of refused enrollments."""
    with RemoteModule("benchmarks.console", setup.our_env) as console_pages:
        console_pages.call("prepare", count=learners, refused=refused)
        milliseconds: dict[str, float] = console_pages.call("measure_pages")["answer"]
    return milliseconds
