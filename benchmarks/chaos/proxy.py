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
from typing import Any

from benchmarks.lms.server import Broken, Connection, Request, Response, as_json

#: Faults before the request reaches the LMS, and after the LMS has carried it out.
FAULTS_BEFORE = ("500", "503", "429 header", "429 body", "reset", "time-out")
FAULTS_AFTER = ("500", "reset", "time-out", "half body", "invalid JSON")


@dataclass
class Proxy:
    """The proxy in front of the LMS.

    share: the fraction of requests to spoil, 0 to 1. hold: for the fault ``time-out``, seconds
    until the connection is reset; longer than the client waits. retry_after: seconds in a 429
    answer. counts: how often each fault was caused, and the numbers of requests and of spoiled
    ones. idle: reader and writer of each unused connection to the LMS."""

    lms_port: int
    share: float
    hold: float
    retry_after: int
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    idle: deque[Any] = field(default_factory=deque)

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
        fault = ""
        if self.rng.random() < self.share:
            # Before the LMS gets the request, or after it has answered.
            is_before = self.rng.random() < 0.5
            fault = self.rng.choice(FAULTS_BEFORE if is_before else FAULTS_AFTER)
            self.counts[f"{fault} ({'before' if is_before else 'after'})"] += 1
            self.counts["spoiled"] += 1
            if is_before:
                return self._spoil(fault, answer=None), 0.0
        return self._forward_and_spoil(request, fault), 0.0

    # fault: one of FAULTS_AFTER; "" for none. The answer is 502 if the LMS does not answer.
    async def _forward_and_spoil(self, request: Request, fault: str) -> Response:
        try:
            answer = await self._forward(request)
        except (OSError, asyncio.IncompleteReadError):
            return Response(502)
        return await self._spoil(fault, answer) if fault else answer

    async def _spoil(self, fault: str, answer: Response | None) -> Response:
        """What the client gets in place of the LMS's answer. answer: the LMS's; None for a fault
        before the request reaches the LMS."""
        if fault == "time-out":
            await asyncio.sleep(self.hold)
            return Broken(b"")
        if fault == "reset":
            return Broken(b"")
        if fault == "429 header":
            wait = (("Retry-After", str(self.retry_after)),)
            return as_json({"detail": "Request was throttled."}, status=429, headers=wait)
        if fault == "429 body":
            detail = f"Request was throttled. Expected available in {self.retry_after} seconds."
            return as_json({"detail": detail}, status=429)
        if fault == "half body":
            whole_answer = answer or Response()
            left_out = max(1, len(whole_answer.body) // 2)
            return Broken(whole_answer.to_bytes()[:-left_out])
        if fault == "invalid JSON" and answer is not None and answer.kind == "application/json":
            return Response(200, b'{"results": [{"id": 1, "sta', kind="application/json")
        # The faults 500 and 503, and "invalid JSON" in place of an answer that is not JSON.
        status = int(fault) if fault.isdigit() else 500
        return Response(status, b"<title>Error</title>", kind="text/html")

    async def _forward(self, request: Request) -> Response:
        """The LMS's answer. A request that fails on an unused connection, which the LMS may have
        closed, is sent again on a new one."""
        for is_new_connection in (False, True):
            reader, writer = await self._connection(is_new_connection)
            try:
                writer.write(_encode(request))
                answer = await _read_response(reader)
            except (OSError, asyncio.IncompleteReadError):
                writer.close()
                if is_new_connection:
                    raise
                continue
            self.idle.append((reader, writer))
            return answer
        raise AssertionError("unreachable")

    async def _connection(self, is_new_connection: bool) -> Any:
        """The reader and writer of an unused connection if there is one, else of a new one."""
        if self.idle and not is_new_connection:
            return self.idle.pop()
        return await asyncio.open_connection("127.0.0.1", self.lms_port)


def _encode(request: Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def _read_response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers, kind, length = [], "", 0
    for line in head[1:-2]:
        name, _, value = line.partition(": ")
        if name.lower() == "content-length":
            length = int(value)
        elif name.lower() == "content-type":
            kind = value
        else:
            headers.append((name, value))
    return Response(int(head[0].split(" ")[1]), await reader.readexactly(length), headers, kind)


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
