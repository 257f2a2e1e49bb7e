"""A proxy in front of the LMS that spoils a share of its answers.

Half of the faults happen before the request reaches the LMS, half after the LMS has carried it out:
then only the answer is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.lms.server import Broken, Connection, Request, Response, as_json

#: Faults before the request reaches the LMS, and after the LMS has carried it out.
FAULTS_BEFORE = ("500", "503", "429 header", "429 body", "reset", "time-out")
FAULTS_AFTER = ("500", "reset", "time-out", "half body", "invalid JSON")


class LmsConnection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class Proxy:
    """The proxy in front of the LMS.

    share: the fraction of requests to spoil, 0 to 1. hold: for the fault ``time-out``, seconds
    until the connection is reset; longer than the client waits. retry_after: seconds in a 429
    answer. counts: how often each fault was caused, and the numbers of requests and of spoiled
    ones. idle: the unused connections to the LMS."""

    lms_port: int
    share: float
    hold: float
    retry_after: int
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    idle: deque[LmsConnection] = field(default_factory=deque)

    def handle(self, request: Request) -> tuple[Response | Awaitable[Response], float]:
        """Passes the request on to the LMS, or spoils it or its answer. Returns the answer and its
        delay, which is 0."""
        # The first two paths are for the harness, not for the LMS.
        if request.path == "/proxy/share":
            self.share = float(request.params()["value"])
            return as_json({}), 0.0
        if request.path == "/proxy/counts":
            return as_json(dict(self.counts)), 0.0
        self.counts["requests"] += 1
        if self.rng.random() >= self.share:
            return self._forward_or_502(request), 0.0
        self.counts["spoiled"] += 1
        is_before = self.rng.random() < 0.5
        if is_before:
            fault = self.rng.choice(FAULTS_BEFORE)
            self.counts[f"{fault} (before)"] += 1
            return self._spoil_before(fault), 0.0
        fault = self.rng.choice(FAULTS_AFTER)
        self.counts[f"{fault} (after)"] += 1
        return self._forward_and_spoil(request, fault), 0.0

    async def _forward_or_502(self, request: Request) -> Response:
        """The LMS's answer; 502 if it does not answer."""
        try:
            return await self._forward(request)
        except (OSError, asyncio.IncompleteReadError):
            return Response(502)

    async def _spoil_before(self, fault: str) -> Response:
        """What the client gets while the LMS gets no request. fault: one of FAULTS_BEFORE."""
        match fault:
            case "time-out":
                return await self._time_out()
            case "reset":
                return Broken(b"")
            case "429 header":
                wait = (("Retry-After", str(self.retry_after)),)
                return as_json({"detail": "Request was throttled."}, status=429, headers=wait)
            case "429 body":
                detail = f"Request was throttled. Expected available in {self.retry_after} seconds."
                return as_json({"detail": detail}, status=429)
        return _error_page(int(fault))

    async def _forward_and_spoil(self, request: Request, fault: str) -> Response:
        """What the client gets in place of the LMS's answer; 502 if the LMS does not answer. fault:
        one of FAULTS_AFTER."""
        try:
            answer = await self._forward(request)
        except (OSError, asyncio.IncompleteReadError):
            return Response(502)
        match fault:
            case "time-out":
                return await self._time_out()
            case "reset":
                return Broken(b"")
            case "half body":
                left_out = max(1, len(answer.body) // 2)
                return Broken(answer.to_bytes()[:-left_out])
            case "invalid JSON" if answer.kind == "application/json":
                return Response(200, b'{"results": [{"id": 1, "sta', kind="application/json")
        # The fault 500, and "invalid JSON" in place of an answer that is not JSON.
        return _error_page(500)

    async def _time_out(self) -> Response:
        await asyncio.sleep(self.hold)
        return Broken(b"")

    async def _forward(self, request: Request) -> Response:
        """The LMS's answer. A request that fails on an unused connection, which the LMS may have
        closed, is sent again on a new one. Raises OSError or IncompleteReadError."""
        if self.idle:
            try:
                return await self._send(request, self.idle.pop())
            except (OSError, asyncio.IncompleteReadError):
                pass
        new_connection = await asyncio.open_connection("127.0.0.1", self.lms_port)
        return await self._send(request, LmsConnection(*new_connection))

    async def _send(self, request: Request, connection: LmsConnection) -> Response:
        """The LMS's answer. Keeps the connection for later requests; closes it after an error."""
        try:
            connection.writer.write(_encode(request))
            answer = await _read_response(connection.reader)
        except (OSError, asyncio.IncompleteReadError):
            connection.writer.close()
            raise
        self.idle.append(connection)
        return answer


def _error_page(status: int) -> Response:
    return Response(status, b"<title>Error</title>", kind="text/html")


def _encode(request: Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def _read_response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    _, status, _ = status_line.split(" ", 2)
    headers = []
    kind = ""
    length = 0
    for line in lines:
        name, _, value = line.partition(": ")
        if name.lower() == "content-length":
            length = int(value)
        elif name.lower() == "content-type":
            kind = value
        else:
            headers.append((name, value))
    return Response(int(status), await reader.readexactly(length), headers, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lms-port", type=int, required=True)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--hold", type=float, default=3.0)
    parser.add_argument("--retry-after", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    proxy = Proxy(
        lms_port=arguments.lms_port,
        share=arguments.share,
        hold=arguments.hold,
        retry_after=arguments.retry_after,
        rng=random.Random(arguments.seed),
    )
    asyncio.run(_serve(proxy, arguments.port))


async def _serve(proxy: Proxy, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(proxy.handle), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
