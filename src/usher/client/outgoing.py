"""One request to the LMS, kept so that it can be sent a second time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

#: Seconds.
CONNECT_TIMEOUT = 10.0


class Outgoing:
    """Built once, sent as often as need be."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self._url = url
        self._headers = dict(headers)
        self._content: bytes | None = None

    @property
    def path(self) -> str:
        """Without the query, which may hold what reports must not show."""
        return urlsplit(self._url).path

    def add(
        self,
        json_body: Any,
        form: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        cookies: Mapping[str, str] | None,
        token: str,
    ) -> None:
        if json_body is not None:
            self._content = json.dumps(json_body, separators=(",", ":")).encode()
            self._headers["Content-Type"] = "application/json"
        elif form is not None:
            self._content = urlencode(form).encode()
            self._headers["Content-Type"] = "application/x-www-form-urlencoded"
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        if cookies:
            self._headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in cookies.items() if v)
        self._headers.update(headers or {})

    def request(self, timeout: float) -> httpx.Request:
        times = {"connect": min(timeout, CONNECT_TIMEOUT), "read": timeout}
        return httpx.Request(
            self.method,
            self._url,
            headers=self._headers,
            content=self._content,
            extensions={"timeout": times | {"write": timeout, "pool": timeout}},
        )
