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
        content_type = {"Content_Type": "application/x-www-form-urlencoded"}
        return await self._request("POST", path, headers | content_type, urlencode(form).encode())

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{self._port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self._writer.write("\r\n".join(lines).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        response_headers = {}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            response_headers[name.lower()] = value
        content = await self._read_body(response_headers)
        return Answer(int(head[0].split(" ")[1]), response_headers, content)

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            body: bytes = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return body
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(parts)
