"""A fast HTTP client: one connection, kept open, and one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """Sends requests on one connection to a server of this machine:
    ``async with Browser(port) as browser: await browser.get("/")``. In names of headers, ``_``
    stands for ``-``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: Any = None
        self._writer: Any = None

    async def __aenter__(self) -> Browser:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._request("GET", path, headers, b"")

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        headers["Content_Type"] = "application/x-www-form-urlencoded"
        return await self._request("POST", path, headers, urlencode(form).encode())

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{self._port}"]
        for name, value in headers.items():
            lines.append(f"{name.replace('_', '-')}: {value}")
        lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._writer.write(head.encode() + body)
        return await self._read_answer()

    async def _read_answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        _, status, *_ = status_line.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return Answer(int(status), headers, await self._read_body(headers))

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        """Reads a body of known length, or in chunks. headers: of the answer."""
        if headers.get("transfer-encoding") != "chunked":
            body: bytes = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return body
        parts = []
        # Each chunk is its size in hexadecimal, a line break, the data, and a line break. The last
        # chunk is empty.
        while size := int(await self._reader.readline(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(parts)
