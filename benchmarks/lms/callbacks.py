"""Sends the application the requests that an LMS sends, with asyncio's basic streams."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.lms.world import World
from usher.contract.paths import ApplicationPath


class CallbackFailed(Exception):
    """The application could not be reached, or failed; the LMS then answers 500."""


@dataclass
class Callbacks:
    """The ``ApplicationRequests`` that reach a real application, whose server is at ``server_url``.
    Opens a connection for each request, as python-social-auth does."""

    world: World
    server_url: str

    async def me(self, token: str) -> str | None:
        header = f"Authorization: Bearer {token}\r\n"
        status, answer = await self._call("GET", ApplicationPath.USERS_ME, header, body=b"")
        if status != 200:
            return None
        return str(json.loads(answer)["username"])

    async def exchange(self, code: str, redirect_uri: str) -> str | None:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.world.client_id,
            "client_secret": self.world.oauth_login_secret,
            "redirect_uri": redirect_uri,
        }
        header = "Content-Type: application/x-www-form-urlencoded\r\n"
        body = urlencode(form).encode()
        status, answer = await self._call("POST", ApplicationPath.TOKEN, header, body)
        if status != 200:
            return None
        return await self.me(str(json.loads(answer)["access_token"]))

    async def _call(self, method: str, path: str, header: str, body: bytes) -> tuple[int, bytes]:
        """Sends a request. header: a line with its end. Returns status and body of the
        application's answer. Raises CallbackFailed for a 5xx, or if there is no answer within 15
        seconds."""
        try:
            async with asyncio.timeout(15):
                return await self._send_and_read(method, path, header, body)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise CallbackFailed(str(error)) from error

    async def _send_and_read(
        self, method: str, path: str, header: str, body: bytes
    ) -> tuple[int, bytes]:
        """As ``_call``, without a limit of time. Raises OSError or ValueError if there is no
        answer."""
        url = urlsplit(self.server_url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n{header}\r\n"
            )
            writer.write(head.encode() + body)
            answer: Any = await reader.read()
        finally:
            writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        _, status_text, _ = head.split(b" ", 2)
        status = int(status_text)
        if status >= 500:
            raise CallbackFailed(f"the application answered {status}")
        return status, content
