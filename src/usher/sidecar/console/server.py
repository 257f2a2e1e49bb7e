"""Serves the pages to the person who opened the link in the terminal. The server listens on
loopback, unless another address is given, as in a container whose port is published on its host's
loopback.

The link works once. It sets a cookie that is valid as long as the sidecar runs. Only requests whose
Host header names this machine are answered. Otherwise another site could reach the pages by a name
of its own that resolves to this machine (DNS rebinding).
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from usher.sidecar.console import pages
from usher.sidecar.watch_state import WatchState

LOOPBACK = "127.0.0.1"
#: Addresses that mean all interfaces; these include loopback.
ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - asked for by the operator
_LOOPBACK_NAMES = {LOOPBACK, "localhost"}
#: Seconds between two links that are printed after a request without a valid link.
_SECONDS_BETWEEN_LINKS = 10.0
#: The most characters of a search that are used, as in the form.
_MAX_QUERY_LENGTH = 255
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Access:
    """The links and the session cookie that give access to the pages. print_to_terminal: prints a
    link."""

    def __init__(self, address: str, print_to_terminal: Callable[[str], None]) -> None:
        self.cookie_name = f"usher-console-{urlsplit(address).port}"
        self._address = address
        self._print_to_terminal = print_to_terminal
        self._lock = threading.Lock()
        #: The key in the newest link; '' once the link was used.
        self._key = ""
        #: When the newest link was printed.
        self._printed_at = 0.0
        #: The value of the session cookie, the same for every link.
        self._session = secrets.token_urlsafe(32)

    def print_link(self) -> None:
        """Prints a new link, which replaces one that was not used."""
        with self._lock:
            self._key = secrets.token_urlsafe(32)
            self._printed_at = time.monotonic()
            link = f"{self._address}/open?key={self._key}"
        self._print_to_terminal(link)

    def print_link_again(self) -> None:
        """Prints a new link after a request without a valid one, at most every ten seconds."""
        with self._lock:
            is_due = time.monotonic() - self._printed_at > _SECONDS_BETWEEN_LINKS
        if is_due:
            self.print_link()

    def redeem_key(self, key: str) -> str:
        """Returns the session cookie's value if ``key`` is that of the newest link, which is then
        used up; '' for another or a used key."""
        with self._lock:
            if not self._key or not hmac.compare_digest(self._key.encode(), key.encode()):
                return ""
            self._key = ""
            return self._session

    def is_signed_in(self, cookies: str) -> bool:
        """Whether the header ``Cookie`` has the session cookie. The cookies of other programs on
        this machine, which browsers send too, may be in any form."""
        for cookie in cookies.split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == self.cookie_name and hmac.compare_digest(
                value.encode(), self._session.encode()
            ):
                return True
        return False


@contextmanager
def serve_pages(
    state: WatchState, port: int, print_link: Callable[[str], None], host: str = LOOPBACK
) -> Iterator[str]:
    """Serves until the block ends. Yields the address of the pages. port: 0 for a free one. host:
    address to listen on. Raises OSError if it can't be listened on."""
    name = LOOPBACK if host == ALL_INTERFACES else host

    class Handler(_Handler):
        names = _LOOPBACK_NAMES | {name}

    Handler.state = state
    with ThreadingHTTPServer((host, port), Handler) as server:
        server.daemon_threads = True
        address = f"http://{name}:{server.server_address[1]}"
        # Only now is the port known, which the links need.
        access = Access(address, print_link)
        Handler.access = access
        threading.Thread(target=server.serve_forever, daemon=True).start()
        access.print_link()
        try:
            yield address
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    # A subclass in ``serve_pages`` has these. names: host names of this machine.
    access: Access
    state: WatchState
    names: set[str]
    #: The header ``Server`` names no versions.
    server_version, sys_version = "usher", ""
    #: Seconds until a silent connection is closed.
    timeout = 30

    def do_GET(self) -> None:
        if not self._is_for_this_machine():
            text = "Open the console by the address that it printed."
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, pages.message(text))
            return
        try:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
        except ValueError:
            text = "The address can't be read."
            self._answer(HTTPStatus.BAD_REQUEST, pages.message(text))
            return
        if address.path == "/console.css":
            self._answer(HTTPStatus.OK, _style(), content_type="text/css; charset=utf-8")
        elif address.path == "/open":
            self._open(query.get("key", ""))
        elif not self.access.is_signed_in(self.headers.get("Cookie", "")):
            self._refuse()
        else:
            self._show(address.path, query)

    def _is_for_this_machine(self) -> bool:
        """Whether the request's Host header names this machine, with any port, since the port may
        be forwarded."""
        host = self.headers.get("Host", "")
        try:
            return urlsplit(f"http://{host}").hostname in self.names and "@" not in host
        except ValueError:
            return False

    def _open(self, key: str) -> None:
        """Answers the link from the terminal: sets the session cookie if the link is valid."""
        session = self.access.redeem_key(key)
        if not session:
            self._refuse()
            return
        cookie = f"{self.access.cookie_name}={session}; HttpOnly; SameSite=Lax; Path=/"
        headers = {"Location": "/", "Set-Cookie": cookie}
        self._answer(HTTPStatus.SEE_OTHER, body="", headers=headers)

    def _refuse(self) -> None:
        """Answers a request without a valid link, and prints a new link."""
        self.access.print_link_again()
        self._answer(
            HTTPStatus.FORBIDDEN,
            pages.message(
                "This link is not valid, or was used already. The terminal shows a new one."
            ),
        )

    def _show(self, path: str, query: dict[str, str]) -> None:
        """Answers a request for one of the pages."""
        if path == "/":
            self._answer(HTTPStatus.OK, pages.overview(self.state))
        elif path == "/refusals/":
            self._answer(HTTPStatus.OK, pages.refusals(self.state))
        elif path == "/learners/":
            text = query.get("q", "")[:_MAX_QUERY_LENGTH]
            self._answer(HTTPStatus.OK, pages.learners(self.state, text))
        else:
            self._answer(HTTPStatus.NOT_FOUND, pages.message("There is no such page."))

    def _answer(
        self,
        status: HTTPStatus,
        body: str,
        content_type: str = "text/html; charset=utf-8",
        headers: dict[str, str] | None = None,
    ) -> None:
        data = body.encode(errors="replace")
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def end_headers(self) -> None:
        """Adds the headers of every answer, also to the pages about errors that http.server makes
        by itself, as for an unknown method."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing, because addresses may hold a key or a learner's name."""


def _style() -> str:
    """Returns the style sheet of the application's console, which these pages share."""
    folder = resources.files("usher.console")
    return folder.joinpath("static/usher_console/console.css").read_text()
