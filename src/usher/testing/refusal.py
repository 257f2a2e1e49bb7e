"""Tests reach no LMS but the one of a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Connect = Callable[[Any], Any]


class LmsTrafficRefused(AssertionError):
    """A test would have sent a request to an LMS that no fixture made."""

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"This test would send a request to the LMS at {base_url}. Take the fixture usher_lms "
            "(a real embedded LMS) or usher_fake_lms (one in memory). To reach that LMS on "
            "purpose, set usher_lms_traffic = allowed in pytest's configuration."
        )


class Refused:
    """base_urls: what was refused in the test that runs now, also in other threads."""

    def __init__(self) -> None:
        self.base_urls: list[str] = []

    def connect(self, http: Any) -> Any:
        self.base_urls.append(http.base_url)
        raise LmsTrafficRefused(http.base_url)


_originals: list[Connect] = []


def real(http: Any) -> Any:
    """A connection over the network."""
    return _originals[0](http)


@contextmanager
def connecting(connect: Connect) -> Iterator[None]:
    """For as long as the block lasts, connections to an LMS are those of ``connect``."""
    from usher.client.http import Http

    before = Http._take_lane
    if not _originals:
        _originals.append(before)
    # A function of its own: a bound method would not be given the client.
    Http._take_lane = lambda http: connect(http)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Http._take_lane = before  # type: ignore[method-assign]
