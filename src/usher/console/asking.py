"""Requests to the LMS from the console's pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from usher.client.urgency import urgent, within

#: Seconds that a page waits for an LMS that does not answer.
SECONDS = 10.0


@contextmanager
def for_a_page(seconds: float = SECONDS) -> Iterator[None]:
    """Requests within the block are urgent, and take at most so many seconds together."""
    with urgent(), within(seconds):
        yield
