"""The client for use alone: ``from usher.client import OpenEdx``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from usher.client.client import Credentials, LmsClient
from usher.client.errors import BadAnswer
from usher.client.http import Http
from usher.client.payloads import MAX_PAGES, ObservedRun, read_run
from usher.client.shared import LocalState, SharedState
from usher.contract.oauth import DEFAULT_BACKEND


class OpenEdx(LmsClient):
    """A client of one Open edX LMS, which acts as a service worker.

    url: the LMS's address for servers. browser_url: its address for browsers, if that differs.
    worker, token: the service worker's username and its OAuth access token. client_id,
    client_secret: an OAuth client in the LMS, needed only to obtain learners' tokens. backend: name
    of the LMS's sign-in backend for this application. registration_token: for an LMS that restricts
    registration. timeout: seconds for one request and its whole answer. per_second: the most
    requests in a second, 0 for no limit. state: rate limits and circuit breakers shared by several
    processes; the default is for this process alone.

    Safe to use from several threads. Raises BadAddress for an address that can't be used. Each
    method may raise the errors of ``usher.client.errors``.
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

    def runs(self, keys: Sequence[str] = ()) -> Iterator[ObservedRun]:
        """The course runs that the service worker can see: those of ``keys``, or all."""
        number, pages = 1, 1
        while number <= pages:
            page = self.runs_page(number, keys)
            if page.pages > MAX_PAGES:
                raise BadAnswer(
                    f"The LMS says that its course list has {page.pages} pages; the most that are "
                    f"read are {MAX_PAGES}."
                )
            pages = page.pages
            yield from map(read_run, page.results)
            number += 1

    def close(self) -> None:
        """Closes the connections. A later request opens new ones."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
