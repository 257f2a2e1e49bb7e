"""The application in the recordings: a small OAuth provider.

The code ``code-NAME`` gets the token ``tok-NAME``, which belongs to the user NAME; other codes
and tokens are refused.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from usher.contract.paths import ApplicationPath


class _Handler(BaseHTTPRequestHandler):
    """The endpoints of the application that the LMS calls. The code ``code-NAME`` yields the token
    ``tok-NAME``, and that token the learner ``NAME``."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        code = parse_qs(body).get("code", [""])[0]
        if urlsplit(self.path).path == ApplicationPath.TOKEN and code.startswith("code-"):
            token = "tok-" + code.removeprefix("code-")
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": 36000}
            self._answer(200, {**answer, "scope": "user:read"})
        else:
            self._answer(400, {"error": "invalid_grant"})

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        is_users_me = urlsplit(self.path).path.rstrip("/") == ApplicationPath.USERS_ME
        if not is_users_me or not token.startswith("tok-"):
            self._answer(401, {"detail": "Authentication credentials were not provided."})
            return
        name = token.removeprefix("tok-")
        email = f"{name}@learners.example"
        # The same id for all: the LMS's backend identifies users by their username.
        self._answer(200, {"id": 1, "username": name, "email": email, "name": f"Name {name}"})

    def log_message(self, *args: Any) -> None:
        """Log nothing: only the LMS's answers matter."""


@contextmanager
def running() -> Iterator[str]:
    """Serve within the block; yields the URL without a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
