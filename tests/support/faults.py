"""A real HTTP proxy in front of the LMS that breaks chosen requests."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.impostors import Impostor

#: Names of faults.
ERROR_500, UNAVAILABLE, THROTTLED, THROTTLED_IN_BODY = "500", "503", "429", "429-in-body"
SLOW, RESET, HALF_BODY, BAD_JSON = "slow", "reset", "half-body", "bad-json"
#: The LMS carries the request out, and the answer is lost.
LOST_ANSWER = "lost-answer"
#: All faults but THROTTLED_IN_BODY, which is a variant of THROTTLED.
ALL = (ERROR_500, UNAVAILABLE, THROTTLED, SLOW, RESET, HALF_BODY, BAD_JSON, LOST_ANSWER)

#: Headers that concern one connection only, so that a proxy does not pass them on.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

#: Function from a request's method and path to its fault, '' for none.
Decide = Callable[[str, str], str]


@dataclass
class FaultyProxy:
    """A proxy in front of ``target``. url: the proxy's address. decide: returns the fault for each
    request. impostor: answers in place of the LMS, if set. slow_seconds: delay of SLOW.
    retry_after: seconds that the answers with status 429 name. requests: (method, path) of all
    requests so far. released: an event that ends all delays."""

    target: str
    url: str = ""
    decide: Decide = lambda method, path: ""
    impostor: Impostor | None = None
    slow_seconds: float = 30.0
    retry_after: int = 1
    requests: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def break_next(self, fault: str, *, path: str = "", times: int = 1) -> None:
        """Gives this fault to the next ``times`` requests whose path contains ``path``. This
        method, ``break_all`` and ``break_some`` each replace ``decide``."""
        remaining, lock = times, threading.Lock()

        def decide(_method: str, requested_path: str) -> str:
            nonlocal remaining
            with lock:
                if path in requested_path and remaining > 0:
                    remaining -= 1
                    return fault
            return ""

        self.decide = decide

    def break_all(self, fault: str, *, path: str = "") -> None:
        """Gives this fault to all further requests whose path contains ``path``."""
        self.decide = lambda _method, requested_path: fault if path in requested_path else ""

    def break_some(self, share: float, faults: tuple[str, ...] = ALL, seed: int = 0) -> None:
        """Gives random faults to a random ``share`` (0 to 1) of all further requests."""
        generator = random.Random(seed)
        lock = threading.Lock()

        def decide(_method: str, _path: str) -> str:
            with lock:
                return generator.choice(faults) if generator.random() < share else ""

        self.decide = decide

    def mend(self) -> None:
        """Gives no fault to further requests."""
        self.decide = lambda method, path: ""

    def count(self, path: str) -> int:
        """The number of requests so far whose path contains ``path``."""
        return sum(path in requested_path for _, requested_path in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append((self.command, self.path))
        if proxy.impostor is not None and proxy.impostor.answers(self.path):
            return self._impersonate(proxy.impostor, body)
        fault = proxy.decide(self.command, self.path)
        if not fault:
            return self._answer(*self._forward(body))
        # The method is named after the fault, such as ``_half_body`` after ``half-body``.
        return getattr(self, "_" + fault.replace("-", "_"))(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = _serve

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Sends the request to the LMS. Returns status, headers and body of the LMS's answer."""
        target = urlsplit(self.server.proxy.target)
        connection = HTTPConnection(target.hostname or "", target.port or 80, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None
    ) -> None:
        """Sends an answer. length: the header Content-Length, by default the body's length."""
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _impersonate(self, impostor: Impostor, body: bytes) -> None:
        if impostor.drip:
            return self._drip(impostor)
        if impostor.spoil is None:
            return self._answer(impostor.status, impostor.headers(), impostor.body)
        status, headers, original = self._forward(body)
        return self._answer(status, [*headers, *impostor.headers()], impostor.spoil(original))

    def _drip(self, impostor: Impostor) -> None:
        """Sends the headers byte by byte, so that no single read takes long."""
        self.close_connection = True
        for character in "HTTP/1.1 200 OK\r\n" + "X-Slow: and slower\r\n" * 50:
            if self.server.proxy.released.wait(impostor.drip):
                return
            self.wfile.write(character.encode())
            self.wfile.flush()

    def _500(self, body: bytes) -> None:
        self._answer(500, [("Content-Type", "text/html")], b"<h1>Server Error (500)</h1>")

    def _503(self, body: bytes) -> None:
        self._answer(503, [("Content-Type", "text/html")], b"Service Unavailable")

    def _429(self, body: bytes) -> None:
        wait = ("Retry-After", str(self.server.proxy.retry_after))
        self._answer(429, [("Content-Type", "application/json"), wait], b'{"detail": "slow down"}')

    def _429_in_body(self, body: bytes) -> None:
        text = (
            '{"developer_message": "Request was throttled. Expected available in '
            f'{self.server.proxy.retry_after} seconds."}}'
        )
        self._answer(429, [("Content-Type", "application/json")], text.encode())

    def _slow(self, body: bytes) -> None:
        proxy = self.server.proxy
        proxy.released.wait(proxy.slow_seconds)
        self._answer(*self._forward(body))

    def _reset(self, body: bytes) -> None:
        # Lingering for 0 seconds makes ``close`` send a reset instead of an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _half_body(self, body: bytes) -> None:
        status, headers, original = self._forward(body)
        self.close_connection = True
        half = original[: len(original) // 2]
        # The announced length is greater than the body, even if the original body is empty.
        self._answer(status, headers, half, length=max(2, len(original)))
        self.connection.shutdown(socket.SHUT_RDWR)

    def _bad_json(self, body: bytes) -> None:
        status, headers, _ = self._forward(body)
        self._answer(status, headers, b'{"results": [')

    def _lost_answer(self, body: bytes) -> None:
        self._forward(body)
        self._reset(body)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: Python's default of 5 waiting connections is too few for concurrent clients.
    request_queue_size = 256

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors: clients close connections that a fault has broken."""


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """A running proxy in front of ``target``, at first without faults."""
    proxy = FaultyProxy(target)
    server = _Server(proxy)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        server.shutdown()
        server.server_close()
