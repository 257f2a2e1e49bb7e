"""Refuses requests of tests to an LMS that is not one of Usher's fixtures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

# pytest imports this module in every environment in which Usher is installed, also without httpx.
if TYPE_CHECKING:
    import ssl

    from usher.client.connection import Opener, Transport


class LmsTrafficRefused(AssertionError):
    """A test tried to send a request to an LMS that is not one of Usher's fixtures."""

    def __init__(self, base_url: str) -> None:
        where = f"the LMS at {base_url}" if base_url else "an LMS, and no LMS is configured"
        super().__init__(
            f"This test tried to send a request to {where}; it was not sent. Use the "
            "fixture usher_lms (a real embedded LMS) or usher_fake_lms (one in memory). To allow "
            "the request, set usher_lms_traffic = allowed in pytest's configuration, or, with "
            "manage.py test, USHER_LMS_TRAFFIC_IN_TESTS = True in the settings."
        )


class RefusingOpener:
    """An opener for ``usher.client.connection.opened_by`` that refuses every LMS. refused_urls:
    the LMS addresses of the requests refused during the current test, in all threads."""

    def __init__(self) -> None:
        self.refused_urls: list[str] = []

    def open(self, base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        """Raises LmsTrafficRefused."""
        self.refused_urls.append(base_url)
        raise LmsTrafficRefused(base_url)


class NetworkGuard:
    """An audit hook of Python that refuses connections to an LMS, whichever library opens them,
    because a project may call the LMS without Usher's client. base_urls: the LMS's addresses.
    opener: gets the addresses of refused connections. is_active: whether the hook refuses anything;
    Python can't remove an audit hook again."""

    def __init__(self, base_urls: Iterable[str], opener: RefusingOpener) -> None:
        self.is_active = False
        self._opener = opener
        #: (host, port) of a connection → the LMS's address. Each LMS has an entry for each name of
        #: its host.
        self._base_urls = {}
        for base_url in base_urls:
            parts = urlsplit(base_url)
            port = parts.port or _PORTS.get(parts.scheme)
            for host in _equivalent_hosts(_normalised_host(parts.hostname or "")):
                self._base_urls[host, port] = base_url

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raises LmsTrafficRefused if a connection to the LMS is opened, or its name resolved."""
        if not self.is_active:
            return
        if event == "socket.getaddrinfo":
            host, port = arguments[:2]
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host, port = arguments[1][:2]
        else:
            return
        if isinstance(port, str):
            # ``getaddrinfo`` also takes the name of a service, such as https, as its port.
            port = _PORTS.get(port, port)
        base_url = self._base_urls.get((_normalised_host(host), port))
        if base_url:
            self._opener.refused_urls.append(base_url)
            raise LmsTrafficRefused(base_url)


#: Scheme or name of a service → its default port.
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _normalised_host(host: Any) -> str:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return text.rstrip(".").lower()


def _equivalent_hosts(host: str) -> tuple[str, ...]:
    """All names of this machine if ``host`` is one of them; else only ``host``."""
    return _LOOPBACK if host in _LOOPBACK else (host,)


def opener_that_allows(allowed_url: str, opener_of_others: Opener) -> Opener:
    """An opener for ``usher.client.connection.opened_by``: opens real connections to the LMS at
    ``allowed_url``, and calls ``opener_of_others`` for any other LMS."""
    from usher.client.connection import over_the_network

    def open_connection(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
        opener = over_the_network if base_url == allowed_url else opener_of_others
        return opener(base_url, ssl_context)

    return open_connection
