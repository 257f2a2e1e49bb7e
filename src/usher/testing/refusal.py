"""Tests reach no LMS but the one of a fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

# pytest imports this wherever Usher is installed, also without httpx.
if TYPE_CHECKING:
    import ssl

    from usher.client.connection import Opener, Transport


class LmsTrafficRefused(AssertionError):
    """A test would have sent a request to an LMS that no fixture made."""

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"This test would send a request to the LMS at {base_url}. Use the fixture usher_lms "
            "(a real embedded LMS) or usher_fake_lms (one in memory). To reach that LMS on "
            "purpose, set usher_lms_traffic = allowed in pytest's configuration."
        )


class Refused:
    """base_urls: what was refused in the test that runs now, also in other threads."""

    def __init__(self) -> None:
        self.base_urls: list[str] = []

    def open(self, base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        self.base_urls.append(base_url)
        raise LmsTrafficRefused(base_url)


def only(allowed: str) -> Opener:
    """Opens real connections to the LMS at ``allowed``, and none to another."""
    from usher.client.connection import over_the_network

    def open_connection(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        if base_url != allowed:
            raise LmsTrafficRefused(base_url)
        return over_the_network(base_url, ssl_context)

    return open_connection
