"""The client for use alone: ``from usher.client import OpenEdx``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from usher.client.client import Credentials, LmsClient
from usher.client.errors import BadAnswer
from usher.client.http import Http
from usher.client.payloads import MAX_PAGES, RunSeen, read_run
from usher.client.shared import LocalState, SharedState
from usher.contract.oauth import DEFAULT_BACKEND


class OpenEdx(LmsClient):
    """One Open edX LMS, asked in the name of a service worker.

    url: the LMS's address for servers; browser_url: its address for browsers, where that differs.
    worker and token: the service worker's username and its OAuth access token. client_id and
    client_secret: an OAuth client of the LMS, needed for tokens of learners only. timeout: seconds
    for one exchange. per_second: a budget of requests, 0 for none. state: what several processes
    share; this process alone by default.

    Safe to use from several threads. Raises BadAddress for an address that can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        worker: str,
        token: str,
        browser_url: str = "",
        client_id: str = "",
        client_secret: str = "",
        backend: str = DEFAULT_BACKEND,
        registration_token: str = "",
        timeout: float = 60.0,
        per_second: float = 0.0,
        state: SharedState | None = None,
    ) -> None:
        http = Http(
            url,
            browser_url=browser_url,
            timeout=timeout,
            per_second=per_second,
            state=state or LocalState(),
        )
        who = Credentials(worker, token, client_id, client_secret, backend, registration_token)
        super().__init__(http, who)

    def runs(self, keys: Sequence[str] = ()) -> Iterator[RunSeen]:
        """The course runs that the LMS shows the service worker; those of ``keys``, or all."""
        number, pages = 1, 1
        while number <= pages:
            page = self.runs_page(number, keys)
            if page.pages > MAX_PAGES:
                raise BadAnswer(f"The LMS tells of {page.pages} pages of course runs.")
            pages = page.pages
            yield from map(read_run, page.results)
            number += 1

    def close(self) -> None:
        """Closes the connections; they are opened again when needed."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
