"""A connection to the LMS with one deadline for a whole request and answer.

httpx's timeouts apply to a single read, so a server that sends one byte from time to time could
keep a caller waiting without limit. Here every read and write may take as long as is left until the
deadline.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import httpcore
import httpx

#: Seconds for which an idle connection is kept.
_KEEPALIVE = 20.0

# At DEBUG httpcore logs the headers of every answer, and with them learners' sessions and
# authorization codes. To see them, set the level of this logger, or of one below it.
_log = logging.getLogger("httpcore")
if _log.level == logging.NOTSET:
    _log.setLevel(logging.INFO)


class Connection(httpx.HTTPTransport):
    """A connection for one exchange at a time. ``deadline``: when the exchange must end, by
    ``time.monotonic``; set before each exchange."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        # The base class would only make a pool, and a TLS context for it.
        self.deadline = math.inf
        self._pool = _Single(ssl_context, _Backend(self))  # type: ignore[assignment]


class _Single:
    """Takes the place of httpx's connection pool, whose accounting a single connection doesn't
    need."""

    def __init__(self, ssl_context: ssl.SSLContext | None, backend: httpcore.SyncBackend) -> None:
        self._ssl_context = ssl_context
        self._backend = backend
        self._connection: httpcore.HTTPConnection | None = None

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Sends the request, over a new connection unless the one of before can still be used."""
        found = self._connection
        if found is None or not found.is_idle() or found.has_expired():
            self.close()
            found = self._connection = httpcore.HTTPConnection(
                request.url.origin,
                self._ssl_context,
                keepalive_expiry=_KEEPALIVE,
                network_backend=self._backend,
            )
        return found.handle_request(request)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Transport(Protocol):
    """What ``Http`` needs of a connection: ``Connection``, or a substitute in tests."""

    deadline: float

    def handle_request(self, request: httpx.Request) -> httpx.Response: ...

    def close(self) -> None: ...


#: Opens a connection to the LMS at an address. What it raises reaches the caller of ``Http``.
Opener = Callable[[str, ssl.SSLContext | None], Transport]


def over_the_network(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
    """The default opener: a real connection."""
    return Connection(ssl_context)


_opener: Opener = over_the_network


def open_connection(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
    """A new connection, by the opener of ``opened_by`` or the default one."""
    return _opener(base_url, ssl_context)


@contextmanager
def opened_by(opener: Opener) -> Iterator[None]:
    """For tests: within this block ``opener`` opens every new connection of every client in this
    process. It can refuse, or answer without a network."""
    global _opener
    before, _opener = _opener, opener
    try:
        yield
    finally:
        _opener = before


class _Backend(httpcore.SyncBackend):
    def __init__(self, owner: Connection) -> None:
        self._owner = owner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._owner)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, owner: Connection) -> None:
        self._stream = stream
        self._owner = owner

    def _left(self, timeout: float | None, error: type[Exception]) -> float:
        left = self._owner.deadline - time.monotonic()
        if left <= 0:
            raise error("the deadline of the exchange has passed")
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._owner)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
