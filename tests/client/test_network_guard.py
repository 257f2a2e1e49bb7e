"""The pytest plugin refuses connections to the project's LMS, whichever library opens them."""

import asyncio
import http.client
import sys
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from usher.testing.refusal import LmsTrafficRefused, NetworkGuard, RefusingOpener


@pytest.fixture
def lms() -> Iterator[HTTPServer]:
    """A server on this machine in place of an LMS."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def refusing_opener(lms: HTTPServer) -> Iterator[RefusingOpener]:
    """Refuses connections to ``lms`` and to https://lms.example during the test. Its
    ``refused_urls`` are the addresses of refused connections."""
    opener = RefusingOpener()
    guard = NetworkGuard([f"http://localhost:{lms.server_port}", "https://LMS.example."], opener)
    sys.addaudithook(guard)
    guard.is_active = True
    yield opener
    guard.is_active = False


async def get_with_async_httpx(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(url)


async def open_asyncio_connection(url: str) -> None:
    parts = httpx.URL(url)
    await asyncio.open_connection(parts.host, parts.port or 443)


def get_with_http_client(url: str) -> None:
    parts = httpx.URL(url)
    http.client.HTTPConnection(parts.host, parts.port or 443).request("GET", "/")


@pytest.mark.parametrize(
    "send_request",
    [
        httpx.get,
        urllib.request.urlopen,
        get_with_http_client,
        lambda url: asyncio.run(get_with_async_httpx(url)),
        lambda url: asyncio.run(open_asyncio_connection(url)),
    ],
    ids=["httpx", "urllib", "http.client", "async httpx", "streams"],
)
def test_requests_to_the_lms_are_refused_whichever_library_sends_them(
    lms: HTTPServer, refusing_opener: RefusingOpener, send_request: Callable[[str], object]
) -> None:
    for url in (
        f"http://127.0.0.1:{lms.server_port}/",
        f"http://localhost:{lms.server_port}/",
        "https://lms.example/",
        "https://Lms.Example./",
    ):
        # Async httpx uses anyio, which puts the exception into a group.
        with pytest.raises((LmsTrafficRefused, ExceptionGroup)):
            send_request(url)
    assert len(refusing_opener.refused_urls) == 4, "one for each request"


def test_requests_to_other_servers_are_not_refused(lms: HTTPServer) -> None:
    guarded_url = f"http://127.0.0.1:{lms.server_port + 1}"  # so that ``lms`` is another server
    guard = NetworkGuard([guarded_url], RefusingOpener())
    sys.addaudithook(guard)
    guard.is_active = True
    try:
        assert httpx.get(f"http://127.0.0.1:{lms.server_port}/").status_code == 204
    finally:
        guard.is_active = False
