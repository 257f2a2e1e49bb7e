"""A small HTTP server in place of the application: sign-in, its signing keys, webhooks.

Tests set ``signed_in_learner``; sign-in always succeeds as this learner.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, CLIENT_SECRET = "lms-at-the-application", "secret-of-the-lms-at-the-application"
WEBHOOK_SECRET = "webhook-secret-" + "0" * 40
#: An access token is this prefix and the code for which it was issued.
TOKEN_PREFIX = "tok-"
#: The event that a logout token must contain.
EVENT = "http://schemas.openid.net/event/backchannel-logout"
#: Signs logout tokens; ``KEY_ID`` names it in the set of keys.
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY_ID = secrets.token_hex(4)


@dataclass
class Received:
    """A message that the LMS posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Application:
    """The state of the server, for tests to set and read.

    signed_in_learner: the answer of users/me for codes issued from now on. learner_of_code: code →
    answer of users/me for the code's token. webhook_status, token_status: the statuses with which
    webhooks and requests for tokens are answered. received: all posted messages. key_requests:
    number of requests for the signing keys.
    """

    signed_in_learner: dict[str, Any] = field(default_factory=dict)
    webhook_status: int = 200
    token_status: int = 200
    received: list[Received] = field(default_factory=list)
    url: str = ""
    learner_of_code: dict[str, dict[str, Any]] = field(default_factory=dict)
    key_requests: int = 0

    def description(self, **changes: Any) -> dict[str, Any]:
        """The application's part of a provisioning description."""
        described = {
            "name": "campus",
            "backend": "mitxpro-oauth2",
            "provider_name": "mitxApplication",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "authorization_url": f"{self.url}/oauth2/authorize/",
            "access_token_url": f"{self.url}/oauth2/token/",
            "api_root": self.url,
            "logout_url": f"{self.url}/logout/",
            "oauth_name": "campus-oauth-app",
            "oauth_client_id": "campus-at-the-lms",
            "oauth_client_secret": "secret-of-campus-at-the-lms",
            "oauth_redirect_uris": [f"{self.url}/login/_private/complete"],
            "issuer": self.url,
            "jwks_url": f"{self.url}/jwks.json",
            "webhook_url": f"{self.url}/webhooks/",
            "webhook_secret": WEBHOOK_SECRET,
            "backchannel_logout_url": f"{self.url}/signed-out/",
        }
        return {**described, **changes}

    def logout_token(self, username: str, *, key: Any = _KEY, **changes: Any) -> str:
        """A token of OpenID Connect Back-Channel Logout for this learner. changes: other values of
        claims; a claim that is None is left out."""
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": username,
            "iat": int(time.time()),
            "jti": secrets.token_hex(16),
            "events": {EVENT: {}},
        }
        claims |= changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": KEY_ID})

    def issue_token(self, learner: dict[str, Any]) -> str:
        """Returns an access token. The answer of users/me for this token is ``learner``."""
        code = secrets.token_hex(8)
        self.learner_of_code[code] = learner
        return f"{TOKEN_PREFIX}{code}"

    def issue_code(self) -> str:
        """Returns a code for ``signed_in_learner``."""
        code = secrets.token_hex(8)
        self.learner_of_code[code] = dict(self.signed_in_learner)
        return code


class _Handler(BaseHTTPRequestHandler):
    application: Application

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, status: int, body: Any = None, location: str = "") -> None:
        content = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/oauth2/authorize/":
            self.reply_with_code({key: values[0] for key, values in parse_qs(url.query).items()})
        elif url.path == "/api/users/me":
            self.reply_with_learner()
        elif url.path == "/jwks.json":
            self.reply_with_signing_keys()
        else:
            self.reply(404, {})

    def reply_with_code(self, query: dict[str, str]) -> None:
        """Redirects the browser back to the LMS with a code."""
        answer = {"code": self.application.issue_code(), "state": query.get("state", "")}
        separator = "&" if "?" in query["redirect_uri"] else "?"
        self.reply(302, location=query["redirect_uri"] + separator + urlencode(answer))

    def reply_with_learner(self) -> None:
        """Replies with the learner to whom the request's access token belongs."""
        code = self.headers.get("Authorization", "").removeprefix(f"Bearer {TOKEN_PREFIX}")
        learner = self.application.learner_of_code.get(code)
        if learner:
            self.reply(200, learner)
        else:
            self.reply(401, {"detail": "no"})

    def reply_with_signing_keys(self) -> None:
        self.application.key_requests += 1
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key()))
        self.reply(200, {"keys": [{**key, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path == "/oauth2/token/":
            self.reply_with_token(parse_qs(body.decode()))
        else:
            self.application.received.append(Received(path, dict(self.headers), body))
            self.reply(self.application.webhook_status, {})

    def reply_with_token(self, form: dict[str, list[str]]) -> None:
        """Replies with the access token for the form's code, unless the test or the code demands
        an error."""
        code = form.get("code", [""])[0]
        if self.application.token_status != 200:
            self.reply(self.application.token_status, {"error": "invalid_client"})
        elif code not in self.application.learner_of_code:
            self.reply(400, {"error": "invalid_grant"})
        else:
            self.reply(200, {"access_token": f"{TOKEN_PREFIX}{code}", "token_type": "Bearer"})


class RunningApplication:
    """Serves an ``Application`` during ``with RunningApplication() as application:``."""

    def __enter__(self) -> Application:
        self.application = Application()
        handler = type("Handler", (_Handler,), {"application": self.application})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.application.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.application

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
