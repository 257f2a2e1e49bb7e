"""A browser without a screen that follows redirects one by one, so that a loop can be named."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

#: Redirects of a sign-in that works: some ten, with a gateway and an identity provider more.
MOST_REDIRECTS = 30
#: The same page so often is a loop. A sign-in passes the LMS's ``/auth/complete/`` twice.
SAME_PAGE = 4
TIMEOUT = httpx.Timeout(30, connect=10)


class BrokenError(Exception):
    """A step of the journey failed: the observation, and the fix."""

    def __init__(self, seen: str, fix: str = "") -> None:
        self.fix = fix
        super().__init__(seen)


class LoopError(BrokenError):
    """Two pages redirect a browser to each other endlessly."""


class UnreachableError(BrokenError):
    """A page on the way doesn't answer at all. host: with its port."""

    def __init__(self, host: str, why: str) -> None:
        self.host = host
        super().__init__(f"{host} does not answer: {why}")


@dataclass
class Browser:
    """visited: every address of the last walk, without its query."""

    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )
    )
    visited: list[str] = field(default_factory=list)

    def follow(self, url: str, *, only: tuple[str, ...] = ()) -> httpx.Response:
        """The page at which the redirects end. only: hosts to stay at; a redirect to another one
        is the end. Raises LoopError, UnreachableError."""
        self.visited = []
        answer = self._get(url)
        while answer.next_request is not None:
            target = str(answer.next_request.url)
            if only and urlsplit(target).netloc not in only:
                return answer
            answer = self._get(target)
        return answer

    def _get(self, url: str) -> httpx.Response:
        page = plain(url)
        self.visited.append(page)
        if self.visited.count(page) >= SAME_PAGE or len(self.visited) > MOST_REDIRECTS:
            raise LoopError("it goes round between " + " and ".join(self._round()))
        try:
            return self.client.get(url)
        except httpx.TransportError as error:
            raise UnreachableError(urlsplit(url).netloc, str(error)) from error

    def _round(self) -> list[str]:
        often = [page for page in dict.fromkeys(self.visited) if self.visited.count(page) > 1]
        return often or self.visited[-2:]

    def close(self) -> None:
        self.client.close()


def plain(url: str) -> str:
    """Without the query, which changes each time and may hold codes."""
    return url.partition("?")[0].partition("#")[0]
