"""Requests to applications. An application may answer with anything, and must not stop the LMS."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

#: What a request may raise. requests does not wrap all errors of urllib3, and a malformed address
#: or header raises ValueError.
NO_ANSWER = (requests.RequestException, HTTPError, ValueError)
#: Seconds in which a whole answer must arrive. The timeouts of requests limit only each wait for
#: the next bytes, so an answer that arrives byte by byte would have no limit.
ANSWER_SECONDS = 20.0
#: Bytes of an answer that are read at a time.
_PORTION = 16 * 1024


class _LimitedStream(io.RawIOBase):
    """The bytes of an answer. Reading raises TimeoutError after ``ANSWER_SECONDS``."""

    def __init__(self, stream: io.RawIOBase, peer: socket.socket) -> None:
        self._stream, self._peer = stream, peer
        self._timeout = peer.gettimeout()
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._peer.settimeout(left if self._timeout is None else min(left, self._timeout))
        try:
            return self._stream.readinto(buffer)
        finally:
            self._peer.settimeout(self._timeout)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_LimitedStream(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _LimitedResponse


class _SecureConnection(HTTPSConnection):
    response_class = _LimitedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOL_CLASSES = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    """Sends the requests of ``Session`` through connections whose answers are limited in time. The
    answers of a SOCKS proxy are not limited."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # these connections have classes of their own
            manager.pool_classes_by_scheme = _POOL_CLASSES
        return manager


class Session(requests.Session):
    """A session that ignores redirects, and whose answers are limited in time.

    With ``allow_redirects=False`` alone, requests reads the whole body of a redirect, whatever its
    length, and parses its address.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def read_body(answer: requests.Response, *, longest: int, seconds: float) -> bytes:
    """The body of an answer to a request with ``stream=True``. Raises ValueError if it has more
    than ``longest`` bytes or takes longer than ``seconds``, and what ``NO_ANSWER`` names."""
    deadline = time.monotonic() + seconds
    body = b""
    for part in answer.iter_content(_PORTION):
        body += part
        if len(body) > longest or time.monotonic() > deadline:
            raise ValueError("the answer is too long or too slow")
    return body


def send(method: str, url: str, **options: Any) -> requests.Response:
    """Send one request; its answer is not read yet. Close it. Raises what ``NO_ANSWER`` names."""
    with Session() as session:
        return session.request(method, url, allow_redirects=False, stream=True, **options)
