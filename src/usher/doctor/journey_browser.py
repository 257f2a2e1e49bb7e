"""The browser of the journey, which follows redirects."""

import re
from collections import Counter
from dataclasses import dataclass
from html import unescape
from urllib.parse import urljoin

import httpx

from usher.contract import agents
from usher.contract.paths import LmsPath
from usher.doctor.facts.web import same_origin

_TIMEOUT = httpx.Timeout(60, connect=10)
#: The most redirects that are followed; browsers give up after twenty.
_MAX_REDIRECTS = 20
_FRAME = re.compile(r"<iframe[^>]*\ssrc=[\"']([^\"']+)", re.IGNORECASE)


class JourneyError(Exception):
    """A step of the journey did not end as expected; the message says at which page or answer."""


@dataclass(frozen=True)
class Landing:
    """The page at which redirects ended. page: None if the page belongs to another server, which
    does not answer on this machine, such as a micro-frontend that only browsers can reach."""

    url: str
    page: httpx.Response | None

    @property
    def description(self) -> str:
        """The address, and the status of the answer if there is one."""
        status = f" with {self.page.status_code}" if self.page is not None else ""
        return f"{self.url.split('?')[0]}{status}"


class Browser:
    """A browser with one learner's cookies. server_urls: the addresses of the application and the
    LMS."""

    def __init__(self, *server_urls: str) -> None:
        self.server_urls = server_urls
        self.client = httpx.Client(timeout=_TIMEOUT, follow_redirects=False, headers=agents.LEARNER)

    def go(self, url: str) -> Landing:
        """Follows redirects from ``url``. Raises JourneyError for a redirect loop, or if the
        application or the LMS does not answer."""
        return self._follow_redirects(self.client.build_request("GET", url))

    def submit(self, url: str) -> Landing:
        """Submits an empty form with the CSRF token of the application, and follows redirects.
        Raises JourneyError, as ``go`` does."""
        token = self._csrf_token()
        headers = {"Referer": url, "X-CSRFToken": token}
        data = {"csrfmiddlewaretoken": token}
        return self._follow_redirects(
            self.client.build_request("POST", url, data=data, headers=headers)
        )

    def _csrf_token(self) -> str:
        """The value of the application's CSRF cookie; '' without one."""
        for cookie in self.client.cookies.jar:
            # The application's cookie comes before the LMS's, because it was set first.
            if "csrf" in cookie.name.lower():
                return cookie.value or ""
        return ""

    def _follow_redirects(self, request: httpx.Request) -> Landing:
        """Sends the request and follows redirects. Raises JourneyError, as ``go`` does."""
        visited_pages: list[str] = []
        while len(visited_pages) < _MAX_REDIRECTS:
            visited_pages.append(_without_query(request.url))
            answer = self._send(request)
            if answer is None or answer.next_request is None:
                return Landing(str(request.url), page=answer)
            request = answer.next_request
        most_visited = Counter(visited_pages).most_common(2)
        repeated_pages = [page for page, times in most_visited if times > 1]
        loop = " and ".join(repeated_pages) or visited_pages[-1]
        raise JourneyError(f"the redirects form a loop between {loop}")

    def _send(self, request: httpx.Request) -> httpx.Response | None:
        """The answer to the request. If there is none, returns None, or raises JourneyError if it
        was sent to the application or the LMS."""
        try:
            return self.client.send(request)
        except httpx.HTTPError as error:
            url = str(request.url)
            if not any(same_origin(url, server_url) for server_url in self.server_urls):
                return None
            reason = str(error) or type(error).__name__
            raise JourneyError(
                f"{_without_query(request.url)} does not answer: {reason}"
            ) from error

    def frames_of(self, landing: Landing) -> list[str]:
        """The addresses of the frames on this page."""
        if landing.page is None:
            return []
        addresses = _FRAME.findall(landing.page.text)
        return [urljoin(landing.url, unescape(address)) for address in addresses]

    def signed_in_as(self, lms_url: str) -> str:
        """The username of the user who is signed in to the LMS, according to its API; '' for none.
        The page after sign-in is not used, because it may belong to a micro-frontend. Raises
        JourneyError if the API fails."""
        answer = self.client.get(lms_url.rstrip("/") + LmsPath.ME)
        if answer.status_code in (401, 403):
            return ""
        if answer.status_code != httpx.codes.OK:
            raise JourneyError(f"{LmsPath.ME} answers {answer.status_code}")
        return str(answer.json()["username"])

    def close(self) -> None:
        self.client.close()


def _without_query(url: httpx.URL) -> str:
    return str(url).split("?")[0]
