"""A real HTTP server with fixed answers, for checks that need no LMS or application."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from threading import Thread
from typing import Any

#: An address at which nothing listens.
NO_SERVER = "http://127.0.0.1:1"


@dataclass
class Answer:
    """An answer of the server. body: what it sends as JSON; bytes are sent unchanged."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def serving(
    answers: Mapping[str, Answer], *, other_paths: int = 404, threads: bool = True
) -> Iterator[str]:
    """Serves ``answers`` by path, without the query, and yields the address. other_paths: the
    status for all other paths. threads: whether the server answers several requests at a time."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            answer = answers.get(self.path.split("?")[0], Answer(other_paths, {}))
            body = b"" if answer.body is None else answer.body
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            default_headers = {"Date": self.date_time_string(), "Content-Type": "application/json"}
            self.send_response_only(answer.status)
            for name, value in {**default_headers, **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(ConnectionError):  # the client may have closed the connection
                self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server_class = ThreadingHTTPServer if threads else HTTPServer
    server = server_class(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
