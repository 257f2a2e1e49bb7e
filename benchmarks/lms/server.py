"""A minimal HTTP/1.1 server. It needs some 50 µs for a request, so it hardly affects
measurements."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote


@dataclass(slots=True)
class Request:
    """A request to the benchmark LMS. target: path and query as sent. path: decoded; query: as
    sent. Names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    path: str = field(init=False)
    query: str = field(init=False)

    def __post_init__(self) -> None:
        encoded_path, _, self.query = self.target.partition("?")
        self.path = unquote(encoded_path) if "%" in encoded_path else encoded_path

    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query))

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    def json(self) -> Any:
        return json.loads(self.body)

    def cookie(self, name: str) -> str:
        """The cookie's value; '' without this cookie."""
        for pair in self.headers.get("cookie", "").split("; "):
            key, _, value = pair.partition("=")
            if key == name:
                return value
        return ""

    @property
    def token(self) -> str:
        """The token of the header ``Authorization: Bearer <token>``; '' without it."""
        _, _, token = self.headers.get("authorization", "").partition(" ")
        return token


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: Iterable[tuple[str, str]] = ()
    kind: str = "application/json"  # the header Content-Type

    def to_bytes(self) -> bytes:
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: {self.kind}"
            f"\r\nContent-Length: {len(self.body)}\r\n{more}\r\n"
        )
        return head.encode() + self.body


class Broken(Response):
    """An answer that is broken off: after ``data`` the connection is closed, or reset if ``data``
    is empty."""

    def __init__(self, data: bytes) -> None:
        super().__init__(200, data)


def as_json(data: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    return Response(status, json.dumps(data, separators=(",", ":")).encode(), headers)


def redirect(location: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    return Response(302, b"", (("Location", location), *headers), "text/html; charset=utf-8")


#: Handles a request. Returns the answer, and the seconds to wait before it is sent.
Handler = Callable[[Request], "tuple[Response | Awaitable[Response], float]"]


class Connection(asyncio.Protocol):
    """One connection, kept open; one request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers each request of which the last part has arrived."""
        self._buffer += data
        while request := self._next_request():
            self._serve(request)

    def _next_request(self) -> Request | None:
        """Takes the next request from the buffer; None if not all of it has arrived yet."""
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        request_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if len(body) < length:
            return None
        self._buffer = body[length:]
        method, target, _ = request_line.split(" ")
        return Request(method, target, headers, body[:length])

    def _serve(self, request: Request) -> None:
        """Answers the request after the delay that the handler gives, counted from now."""
        loop = asyncio.get_running_loop()
        received_at = loop.time()
        answer, delay = self._handler(request)
        if isinstance(answer, Response):
            loop.call_at(received_at + delay, self._send, answer)
        else:
            task = loop.create_task(self._send_later(answer, received_at + delay))
            task.add_done_callback(_raise_error)

    async def _send_later(self, pending_answer: Awaitable[Response], send_at: float) -> None:
        response = await pending_answer
        asyncio.get_running_loop().call_at(send_at, self._send, response)

    def _send(self, answer: Response) -> None:
        """Sends the answer, or as much of it as ``Broken`` describes."""
        if self._transport.is_closing():
            return
        if isinstance(answer, Broken):
            if answer.body:
                self._transport.write(answer.body)
                self._transport.close()
            else:
                self._transport.abort()
        else:
            self._transport.write(answer.to_bytes())


def _raise_error(task: asyncio.Task[None]) -> None:
    """Raises the error of a finished task, which asyncio then logs."""
    if error := task.exception():
        raise error
