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
        """Submits an empty form with the CSRF token of the application."""
        csrf_cookies = [
            cookie for cookie in self.client.cookies.jar if "csrf" in cookie.name.lower()
        ]
        # The application's cookie comes before the LMS's, because it was set first.
        token = (csrf_cookies[0].value if csrf_cookies else "") or ""
        headers = {"Referer": url, "X-CSRFToken": token}
        data = {"csrfmiddlewaretoken": token}
        return self._follow_redirects(
            self.client.build_request("POST", url, data=data, headers=headers)
        )

    def _follow_redirects(self, request: httpx.Request) -> Landing:
        """Sends the request and follows redirects. Raises JourneyError, as ``go`` does."""
        visited: list[str] = []
        while len(visited) < _MAX_REDIRECTS:
            url = str(request.url)
            visited.append(url.split("?")[0])
            try:
                answer = self.client.send(request)
            except httpx.HTTPError as error:
                if any(same_origin(url, server_url) for server_url in self.server_urls):
                    reason = str(error) or type(error).__name__
                    raise JourneyError(f"{visited[-1]} does not answer: {reason}") from error
                return Landing(url, page=None)
            if answer.next_request is None:
                return Landing(url, page=answer)
            request = answer.next_request
        repeated_pages = [page for page, times in Counter(visited).most_common(2) if times > 1]
        raise JourneyError(
            f"the redirects form a loop between {' and '.join(repeated_pages) or visited[-1]}"
        )

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
