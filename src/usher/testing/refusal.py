"""Refuses requests of tests to an LMS that is not one of Usher's fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

# pytest imports this in every environment in which Usher is installed, also without httpx.
if TYPE_CHECKING:
    import ssl

    from usher.client.connection import Opener, Transport


class LmsTrafficRefused(AssertionError):
    """A test tried to send a request to an LMS that is not one of Usher's fixtures."""

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"This test tried to send a request to the LMS at {base_url}; it was not sent. Use the "
            "fixture usher_lms (a real embedded LMS) or usher_fake_lms (one in memory). To allow "
            "the request, set usher_lms_traffic = allowed in pytest's configuration, or, with "
            "manage.py test, USHER_LMS_TRAFFIC_IN_TESTS = True in the settings."
        )


class Refused:
    """An opener for ``usher.client.connection.opened_by`` that refuses every LMS. base_urls: of the
    refused requests of the current test, in all threads."""

    def __init__(self) -> None:
        self.base_urls: list[str] = []

    def open(self, base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        """Raises LmsTrafficRefused."""
        self.base_urls.append(base_url)
        raise LmsTrafficRefused(base_url)


def only(allowed: str) -> Opener:
    """An opener that opens real connections to the LMS at ``allowed`` and refuses any other."""
    from usher.client.connection import over_the_network

    def open_connection(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        if base_url != allowed:
            raise LmsTrafficRefused(base_url)
        return over_the_network(base_url, ssl_context)

    return open_connection
