"""A browser built on httpx. It follows redirects one by one, so that an error can name the pages of
a loop."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from usher.contract import agents

#: The most redirects that are followed. A sign-in has some ten, more with a gateway and an identity
#: provider.
MAX_REDIRECTS = 30
#: The number of visits of the same page that counts as a loop. A normal sign-in visits the LMS's
#: ``/auth/complete/`` twice.
VISITS_IN_A_LOOP = 4
TIMEOUT = httpx.Timeout(30, connect=10)


class BrokenError(Exception):
    """A step of the journey failed. message: what was observed. fix: the remedy, or ''."""

    def __init__(self, message: str, fix: str = "") -> None:
        self.fix = fix
        super().__init__(message)


class LoopError(BrokenError):
    """Pages redirect a browser to each other without end."""


class UnreachableError(BrokenError):
    """A page did not answer. host: its host, with its port."""

    def __init__(self, host: str, why: str) -> None:
        self.host = host
        super().__init__(f"{host} does not answer: {why}")


@dataclass
class Browser:
    """A browser with its own cookies. visited: the addresses that the last ``follow`` requested,
    without their queries."""

    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            headers=agents.LEARNER, timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )
    )
    visited: list[str] = field(default_factory=list)

    def follow(self, url: str, *, only: tuple[str, ...] = ()) -> httpx.Response:
        """Requests ``url`` and follows redirects. Returns the last answer. only: the hosts, with
        their ports, to which redirects are followed; empty for all. Raises LoopError,
        UnreachableError."""
        self.visited = []
        answer = self._get(url)
        while answer.next_request is not None:
            target = str(answer.next_request.url)
            if only and urlsplit(target).netloc not in only:
                return answer
            answer = self._get(target)
        return answer

    def _get(self, url: str) -> httpx.Response:
        """Requests one page; does not follow its redirect. Raises LoopError, UnreachableError."""
        page = without_query(url)
        self.visited.append(page)
        if self.visited.count(page) >= VISITS_IN_A_LOOP or len(self.visited) > MAX_REDIRECTS:
            raise LoopError(
                "the redirects form a loop between " + " and ".join(self._pages_in_loop())
            )
        try:
            return self.client.get(url)
        except httpx.TransportError as error:
            raise UnreachableError(urlsplit(url).netloc, str(error)) from error

    def _pages_in_loop(self) -> list[str]:
        """Returns the pages that were visited more than once; the last two if there are none."""
        repeated = [page for page in dict.fromkeys(self.visited) if self.visited.count(page) > 1]
        return repeated or self.visited[-2:]

    def close(self) -> None:
        self.client.close()


def without_query(url: str) -> str:
    """Returns ``url`` without its query and fragment, which may contain authorization codes."""
    return url.partition("?")[0].partition("#")[0]
