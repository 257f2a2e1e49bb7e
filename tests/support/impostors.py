"""Servers that may answer at the LMS's address in its place.

Examples are a proxy without its backend, a page for browsers, another application and another Open
edX. None of their answers proves anything about a learner or a course run.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass

#: Changes the LMS's own answer: function from its body to the changed body.
Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Impostor:
    """A server that answers in the LMS's place.

    name: for the test's report. only: texts; the server answers only paths that contain one of
    them, and all paths if there are none. location: the target of a redirect. encoding: the header
    Content-Encoding. spoil: changes the LMS's own answer instead of replacing it. drip: seconds
    between two bytes of the headers. server: the header Server.
    """

    name: str
    status: int = 200
    content_type: str = ""
    body: bytes = b""
    only: tuple[str, ...] = ()
    location: str = ""
    encoding: str = ""
    spoil: Spoil | None = None
    drip: float = 0.0
    server: str = ""

    def answers(self, path: str) -> bool:
        return not self.only or any(part in path for part in self.only)

    def headers(self) -> list[tuple[str, str]]:
        values = {
            "Content-Type": self.content_type,
            "Location": self.location,
            "Content-Encoding": self.encoding,
            "Server": self.server,
        }
        return [(name, value) for name, value in values.items() if value]


def _json(name: str, status: int, data: object, **fields: object) -> Impostor:
    """An impostor that answers with ``data`` as JSON. fields: further fields of ``Impostor``."""
    return Impostor(name, status, "application/json", json.dumps(data).encode(), **fields)  # type: ignore[arg-type]


def _page(name: str, status: int, title: str, **fields: object) -> Impostor:
    """An impostor that answers with a page of HTML. fields: further fields of ``Impostor``."""
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Impostor(name, status, "text/html; charset=utf-8", body.encode(), **fields)  # type: ignore[arg-type]


#: Proxies whose backend is missing, each with its own message.
PROXIES = (
    Impostor("traefik-404", 404, "text/plain; charset=utf-8", b"404 page not found\n"),
    Impostor("traefik-503", 503, "text/plain", b"no available server\n"),
    Impostor("envoy-404-empty", 404, server="envoy"),
    Impostor("envoy-503", 503, "text/plain", b"upstream connect error", server="envoy"),
    Impostor("caddy-200-empty", 200, server="Caddy"),
    Impostor("caddy-502-empty", 502, server="Caddy"),
    Impostor("gateway-204", 204),
    _page("nginx-404", 404, "404 Not Found", server="nginx"),
    _page("nginx-503", 503, "503 Service Temporarily Unavailable", server="nginx"),
    _page("nginx-400", 400, "400 The plain HTTP request was sent to HTTPS port", server="nginx"),
    _page("cloudflare-403", 403, "Just a moment...", server="cloudflare"),
    _page("gone-410", 410, "410 Gone"),
    Impostor("s3-404", 404, "application/xml", b"<Error><Code>NoSuchBucket</Code></Error>"),
)
#: Pages for browsers, and redirects.
PAGES = (
    _page("welcome-page", 200, "Welcome to nginx!"),
    _page("maintenance-page", 200, "We will be back soon"),
    Impostor("html-as-json", 200, "application/json", b"<html>Single page application</html>"),
    Impostor("redirect-to-own-sign-in", 302, location="/login?next=/api"),
    Impostor("redirect-to-single-sign-on", 302, location="https://sso.example/authorize?x=y"),
    Impostor("moved-permanently", 301, location="https://other.example/"),
)
#: Answers of other applications, as JSON.
APPLICATIONS = (
    _json("django-404", 404, {"detail": "Not found."}),
    _json("fastapi-404", 404, {"detail": "Not Found"}),
    _json("express-404", 404, {"error": "Cannot GET /api"}),
    _json("json-404-list", 404, []),
    _json("json-400", 400, {"detail": "Malformed."}),
    _json("json-405", 405, {"detail": "Method not allowed."}),
    _json("json-200-status", 200, {"status": "ok"}),
    _json("json-200-object", 200, {}),
    _json("json-200-list", 200, []),
    _json("json-200-null", 200, None),
    _json("json-200-results", 200, {"results": [], "next": None, "count": 0}),
    _json(
        "json-200-pages",
        200,
        {"results": [], "pagination": {"count": 0, "num_pages": 1, "next": None}},
    ),
    _json("json-401", 401, {"detail": "Authentication credentials were not provided."}),
    _json("gateway-403", 403, {"message": "Forbidden"}),
)
#: Answers that are too large or too slow to read.
TRANSFER = (
    Impostor(
        "gzip-bomb",
        200,
        "application/json",
        gzip.compress(b" " * 64 * 1024 * 1024, compresslevel=1),
        encoding="gzip",
    ),
    Impostor("slow-headers", 200, "application/json", b"{}", drip=0.2),
)
#: Groups for tests of both APIs; ``TRANSFER`` is tested with the public API only.
GROUPS = {
    "proxies": PROXIES,
    "pages": PAGES,
    "applications": APPLICATIONS,
}
#: Answers of the LMS itself, changed on their way to the client. The LMS has carried out the
#: request.
SPOILED = (
    Impostor("truncated", spoil=lambda body: body[: len(body) // 2]),
    Impostor("not-gzip", encoding="gzip", spoil=lambda body: body),
    # The last 12 bytes are missing: the end of the data, and gzip's checksum and length.
    Impostor("half-gzip", encoding="gzip", spoil=lambda body: gzip.compress(body)[:-12]),
)
_ERROR = "<h1>Server Error (500)</h1>"
#: An LMS during an upgrade: some endpoints fail, don't exist or answer without content.
MIGRATIONS = (
    _page("accounts-migrate", 500, _ERROR, only=("/accounts", "/account/", "/usher/api")),
    _page("enrollments-migrate", 500, _ERROR, only=("/enrollment",)),
    _page("courses-migrate", 500, _ERROR, only=("/courses/", "/course_modes/", "/course-runs/")),
    _page("tokens-migrate", 500, _ERROR, only=("/oauth2/", "/auth/")),
    _json("courses-unrouted", 404, {"detail": "Not found."}, only=("/courses/", "/course_modes/")),
    _json("accounts-unrouted", 404, {"detail": "Not found."}, only=("/user/v1/accounts",)),
    _json("enrollments-unrouted", 404, {"detail": "Not found."}, only=("/enrollment",)),
    _json("certificates-unrouted", 404, {"detail": "Not found."}, only=("/certificates/",)),
    _json("modes-unrouted", 404, {"detail": "Not found."}, only=("/course_modes/",)),
    _json("modes-empty", 200, [], only=("/course_modes/",)),
    _json("modes-of-nothing", 200, {"results": []}, only=("/course_modes/",)),
    _page("modes-page", 200, "We will be back soon", only=("/course_modes/",)),
    Impostor(
        "modes-404-text", 404, "text/plain", b"404 page not found\n", only=("/course_modes/",)
    ),
    Impostor("modes-nothing", 200, only=("/course_modes/",)),
    _json("certificates-empty", 200, [], only=("/certificates/",)),
    _json("batch-unrouted", 404, {"detail": "Not found."}, only=("/usher/",)),
    Impostor("batch-404-text", 404, "text/plain", b"404 page not found\n", only=("/usher/",)),
)
