"""HTTP requests of the checks: each address is requested once, without following redirects."""

import re
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx

from usher.contract import agents
from usher.doctor.facts.memo import NotKnownError

#: Seconds for one answer: after its start, an LMS takes several seconds for the first answers.
_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
#: Seconds for one answer of a server whose last answer took too long.
_TIMEOUT_OF_SILENT = httpx.Timeout(5.0)
#: The key in ``httpx.Response.extensions`` of two times by this machine's clock (UTC): when the
#: request was sent, and when the answer was received.
SENT_AND_RECEIVED_AT = "usher_between"
#: The beginning of an operating system's error, which people need not read.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
#: The most bytes of an answer, decompressed, and the most seconds in which its body may arrive.
_MAX_BODY = 8 * 1024 * 1024
_MAX_SECONDS = 90.0
#: Headers that no longer hold for a body that was read.
_TRANSFER_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
#: The most redirects that are followed; browsers give up after twenty.
_MAX_REDIRECTS = 20


class NoAnswerError(NotKnownError):
    """No server answered; the message names the address and the reason."""


class FollowedRedirects(NamedTuple):
    """visited: the requested addresses, without their queries. last_status: the status of the last
    answer."""

    visited: list[str]
    last_status: int


@dataclass
class Web:
    """One pool of connections for a whole run. ``get`` caches answers by address and token."""

    _client: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            timeout=_TIMEOUT, follow_redirects=False, headers=agents.DOCTOR
        )
    )
    _answers: dict[tuple[str, str], httpx.Response | NoAnswerError] = field(default_factory=dict)
    #: Address and token → the lock that the thread holds which sends this request.
    _locks: dict[tuple[str, str], Lock] = field(default_factory=dict)
    #: Protects ``_locks``.
    _lock: Lock = field(default_factory=Lock)
    #: The origins of servers that accept connections and do not answer. Further requests to them
    #: get a short timeout: otherwise each request would wait for the whole timeout.
    _silent_origins: set[tuple[str, str, int]] = field(default_factory=set)

    def get(self, url: str, token: str = "") -> httpx.Response:
        """Returns the answer. Raises NoAnswerError if there is none."""
        key = (url, token)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._answers:
                self._answers[key] = self._answer_or_error(url, token)
            answer = self._answers[key]
        if isinstance(answer, NoAnswerError):
            raise answer
        return answer

    def _answer_or_error(self, url: str, token: str) -> httpx.Response | NoAnswerError:
        try:
            return self.request("GET", url, token=token)
        except NoAnswerError as error:
            return error

    def request(
        self, method: str, url: str, token: str = "", *, scheme: str = "Bearer", **options: Any
    ) -> httpx.Response:
        """Sends a request, never from the cache and never with a cookie. Raises NoAnswerError."""
        headers = {"Authorization": f"{scheme} {token}"} if token else {}
        sent_at = datetime.now(UTC)
        if self._is_silent(url):
            options["timeout"] = _TIMEOUT_OF_SILENT
        try:
            with self._client.stream(method, url, headers=headers, **options) as streamed:
                answer = _read(streamed, url)
            answer.extensions[SENT_AND_RECEIVED_AT] = (sent_at, datetime.now(UTC))
            self._silent_origins.discard(origin(url))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.ReadTimeout):
                self._silent_origins.add(origin(url))
            raise NoAnswerError(f"{url} does not answer: {_reason(error)}") from error
        finally:
            self._client.cookies.clear()
        return answer

    def _is_silent(self, url: str) -> bool:
        try:
            return origin(url) in self._silent_origins
        except ValueError:  # not an address
            return False

    def follow(self, url: str) -> FollowedRedirects:
        """Follows redirects as an anonymous browser. Raises NoAnswerError."""
        visited: list[str] = []
        with httpx.Client(
            timeout=_TIMEOUT, follow_redirects=False, headers=agents.DOCTOR
        ) as browser:
            while len(visited) < _MAX_REDIRECTS:
                visited.append(url.split("?")[0])
                timeout = _TIMEOUT_OF_SILENT if self._is_silent(url) else _TIMEOUT
                try:
                    answer = browser.get(url, timeout=timeout)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise NoAnswerError(
                        f"{visited[-1]} does not answer: {_reason(error)}"
                    ) from error
                if answer.next_request is None:
                    break
                url = str(answer.next_request.url)
        return FollowedRedirects(visited, answer.status_code)

    def close(self) -> None:
        self._client.close()


def _read(streamed: httpx.Response, url: str) -> httpx.Response:
    """The answer with its whole body. Raises NoAnswerError if the body is too large or arrives too
    slowly, and HTTPError."""
    deadline = time.monotonic() + _MAX_SECONDS
    body = bytearray()
    for part in streamed.iter_bytes():
        body += part
        if len(body) > _MAX_BODY:
            raise NoAnswerError(f"{url} answers with more than {_MAX_BODY} bytes")
        if time.monotonic() > deadline:
            raise NoAnswerError(f"{url} does not answer: it took too long")
    headers = [
        (name, value)
        for name, value in streamed.headers.multi_items()
        if name not in _TRANSFER_HEADERS
    ]
    return httpx.Response(
        streamed.status_code,
        headers=headers,
        content=bytes(body),
        request=streamed.request,
        extensions=dict(streamed.extensions),
    )


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    return _ERRNO.sub("", str(error)) or type(error).__name__


def resolves(host: str) -> bool:
    """Whether this machine resolves ``host``."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def query_of(url: str) -> dict[str, str]:
    """The query of an address, the first value of each name."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def same_origin(one: str, other: str) -> bool:
    return origin(one) == origin(other)


def origin(url: str) -> tuple[str, str, int]:
    """Returns scheme, host and port; without a port, the scheme's default one."""
    parts = urlsplit(url)
    default_port = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default_port
