"""Requests to the LMS from the console's pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from usher.client.urgency import urgent, within

#: Seconds that a page waits for an LMS that does not answer.
MAX_SECONDS = 10.0


@contextmanager
def page_requests(seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Makes requests within the block urgent. Together they take at most ``seconds``."""
    with urgent(), within(seconds):
        yield
