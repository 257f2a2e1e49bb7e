"""One request to the LMS, which can be sent more than once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from usher.client.errors import Misconfigured

_TOKEN = re.compile(r"[\x21-\x7e]*")
#: Characters of a path and its query that are sent as they are.
_UNQUOTED = "%/:?#[]@!$&'()*+,;=-._~"


def is_token(value: str) -> bool:
    """Whether ``value`` can be sent as a bearer token: ASCII without spaces and control
    characters."""
    return _TOKEN.fullmatch(value) is not None


def is_header(value: str) -> bool:
    """Whether ``value`` can be sent in a header: printable ASCII."""
    return value.isascii() and value.isprintable()


class Outgoing:
    """A request that is built once and sent as often as needed."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers = dict(headers)
        self.content: bytes | None = None

    @property
    def path(self) -> str:
        """The path without the query, which may contain personal data and codes."""
        return urlsplit(self.url).path

    @property
    def target(self) -> str:
        """The path with the query, as it is sent."""
        url = urlsplit(self.url)
        target = f"{url.path}?{url.query}" if url.query else (url.path or "/")
        return quote(target, safe=_UNQUOTED)

    def add(
        self,
        *,
        json_body: Any,
        form: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        cookies: Mapping[str, str] | None,
        token: str,
    ) -> None:
        """Adds a body, headers, cookies and a bearer token ('' for none). Raises Misconfigured for
        a header or token that can't be sent."""
        if json_body is not None:
            self.content = json.dumps(json_body, separators=(",", ":")).encode()
            self.headers["Content-Type"] = "application/json"
        elif form is not None:
            self.content = urlencode(form).encode()
            self.headers["Content-Type"] = "application/x-www-form-urlencoded"
        if token:
            if not is_token(token):
                raise Misconfigured(
                    "A token for the LMS contains a space, a line break or a character that is not "
                    "ASCII, so it can't be sent. Check OPENEDX_SERVICE_WORKER_API_TOKEN.",
                    code="unsendable-token",
                )
            self.headers["Authorization"] = f"Bearer {token}"
        if cookies:
            self.headers["Cookie"] = "; ".join(
                f"{name}={value}" for name, value in cookies.items() if value
            )
        for name, value in (headers or {}).items():
            if not is_header(value):
                raise Misconfigured(
                    f"The header {name} contains a line break or a character that is not ASCII, so "
                    "it can't be sent. Check the settings for the LMS that hold secrets.",
                    code="unsendable-header",
                )
            self.headers[name] = value
