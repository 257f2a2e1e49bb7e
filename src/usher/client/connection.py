"""A connection to the LMS with one deadline for a whole request and answer.

It uses ``http.client`` of the standard library, which needs less than half of the processor time of
httpx. The timeout of a socket applies to a single read, so a server that sends one byte from time
to time could keep a caller waiting without limit. So each read and write gets the time that is left
until the deadline as its timeout.
"""

from __future__ import annotations

import http.client
import io
import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from usher.client.body import MAX_BODY, Body, Received
from usher.client.errors import NotConfigured, TimedOut, Unreachable
from usher.client.outgoing import Outgoing

if TYPE_CHECKING:
    import httpx

#: Seconds in which a connection must be made.
_CONNECT_TIMEOUT = 10.0
#: Seconds for which an idle connection is kept.
_KEEPALIVE_SECONDS = 20.0
_READ_BYTES = 64 * 1024
#: What ``http.client`` finds in headers that it could not read completely.
_HEADER_DEFECTS = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect)


class Transport(Protocol):
    """A connection for one exchange at a time."""

    def exchange(self, outgoing: Outgoing, timeout: float) -> Received:
        """Sends the request and reads its answer, within ``timeout`` seconds. Raises TimedOut,
        Unreachable or BadAnswer; the connection is closed then."""

    def close(self) -> None: ...


class Connection:
    """The connection to the LMS at ``base_url``. It is opened by the first exchange, and again
    whenever the LMS has closed it."""

    def __init__(self, base_url: str, ssl_context: ssl.SSLContext | None) -> None:
        self._base_url = base_url
        url = urlsplit(base_url)
        host = url.hostname or ""
        self._http: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, url.port, context=ssl_context)
            if url.scheme == "https"
            else http.client.HTTPConnection(host, url.port)
        )
        self._used_at = 0.0
        self._timed_socket: _TimedSocket | None = None

    def exchange(self, outgoing: Outgoing, timeout: float) -> Received:
        deadline = time.monotonic() + timeout
        try:
            timed_socket = self._open(deadline)
            timed_socket.deadline = deadline
            answer = self._send(outgoing)
            body = Body(answer.headers.get("Content-Encoding", ""), MAX_BODY)
            while part := answer.read(_READ_BYTES):
                body.add(part)
            if answer.length:  # bytes that Content-Length promised and that did not come
                raise http.client.IncompleteRead(b"", answer.length)
            received = Received(answer.status, answer.headers, body.whole())
        except TimeoutError as error:
            self.close()
            raise TimedOut.after(outgoing.path, timeout) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable.broken_off(outgoing.path, _message_of(error)) from error
        except BaseException:  # such as BadAnswer: the rest of the answer was not read
            self.close()
            raise
        if answer.will_close:
            self.close()
        self._used_at = time.monotonic()
        return received

    def close(self) -> None:
        self._http.close()
        if self._timed_socket is not None:
            self._timed_socket.end()
        self._timed_socket = None

    def _open(self, deadline: float) -> _TimedSocket:
        """The open connection, or a new one if none is open or the LMS has closed the connection.
        Raises TimedOut, Unreachable."""
        if self._timed_socket is not None:
            is_recent = time.monotonic() - self._used_at < _KEEPALIVE_SECONDS
            if is_recent and self._timed_socket.is_quiet():
                return self._timed_socket
            self.close()
        self._http.timeout = min(max(deadline - time.monotonic(), 0.001), _CONNECT_TIMEOUT)
        try:
            self._http.connect()
        except TimeoutError as error:
            self.close()
            raise TimedOut(f"No connection to {self._base_url} was made in time.") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that DNS can't have
            self.close()
            raise Unreachable.not_connected(self._base_url, error) from error
        self._timed_socket = _TimedSocket(self._http.sock)
        self._http.sock = self._timed_socket
        return self._timed_socket

    def _send(self, outgoing: Outgoing) -> http.client.HTTPResponse:
        """Sends the request and reads the status and headers of the answer."""
        try:
            self._http.request(outgoing.method, outgoing.target, outgoing.content, outgoing.headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may answer and close the connection before it has read a large request
        except (ValueError, http.client.InvalidURL) as error:
            # The message of the error repeats the header, which may hold a secret.
            raise Unreachable(
                f"The request for {outgoing.path} can't be sent.", code="unsendable"
            ) from error
        answer = self._http.getresponse()
        defects = [
            defect for defect in answer.headers.defects if isinstance(defect, _HEADER_DEFECTS)
        ]
        # ``http.client`` reads the answer that follows status 100, but not one after 101 to 199.
        if answer.status < 200 or defects:
            raise http.client.HTTPException("its status line or headers can't be read")
        return answer


def _message_of(error: Exception) -> str:
    """The error's message, or its class name if it has none. The message of ``BadStatusLine`` is
    replaced, because it repeats the LMS's answer."""
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
        return "the answer is not HTTP"
    return str(error) or type(error).__name__


class _TimedSocket:
    """The part of a socket that ``http.client`` uses, with a deadline for all of its reads and
    writes."""

    def __init__(self, plain_socket: socket.socket) -> None:
        self._socket = plain_socket
        self.deadline = math.inf

    def is_quiet(self) -> bool:
        """Whether the LMS has neither sent anything since the last answer nor closed the
        connection."""
        with suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return not poll.poll(0)
        return False

    def sendall(self, data: bytes) -> None:
        remaining = memoryview(data)
        while remaining:
            self._set_timeout()
            remaining = remaining[self._socket.send(remaining) :]

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        self._set_timeout()
        return self._socket.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Does nothing, because ``http.client`` calls it before the last answer of a connection has
        been read. ``Connection`` closes the socket with ``end``."""

    def end(self) -> None:
        self._socket.close()

    def _set_timeout(self) -> None:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the deadline of the exchange has passed")
        self._socket.settimeout(seconds)


class _Reader(io.RawIOBase):
    """Reads from the socket. Closing it leaves the socket open for the next request."""

    def __init__(self, timed_socket: _TimedSocket) -> None:
        self._timed_socket = timed_socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._timed_socket.recv_into(buffer)


#: Opens a connection to the LMS at an address. An exception that it raises reaches the caller of
#: ``Http``.
Opener = Callable[[str, "ssl.SSLContext | None"], "Transport | httpx.BaseTransport"]


def over_the_network(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
    """The default opener: a real connection. Raises NotConfigured for the address ''."""
    if not base_url:
        raise NotConfigured
    return Connection(base_url, ssl_context)


_opener: Opener = over_the_network


def is_substituted() -> bool:
    """Whether ``opened_by`` has replaced real connections."""
    return _opener is not over_the_network


def open_connection(base_url: str, ssl_context: ssl.SSLContext | None) -> Transport:
    """A new connection, by the opener of ``opened_by`` or the default one."""
    opened = _opener(base_url, ssl_context)
    if hasattr(opened, "exchange"):  # a Transport, not a transport of httpx
        return opened
    from usher.client.substitute import Substitute

    return Substitute(opened, base_url)


@contextmanager
def opened_by(opener: Opener) -> Iterator[None]:
    """For tests: within this block ``opener`` opens every new connection of every client in this
    process. ``opener`` can refuse, or return a transport of httpx that answers without a
    network."""
    global _opener
    previous_opener, _opener = _opener, opener
    try:
        yield
    finally:
        _opener = previous_opener
