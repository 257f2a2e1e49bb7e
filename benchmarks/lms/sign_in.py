"""Registration, sign-in through the application, and the LMS's own OAuth endpoints."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from benchmarks.lms.server import Request, Response, as_json, redirect
from benchmarks.lms.world import Session, World
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath

COMPLETE = LmsPath.sign_in_complete(DEFAULT_BACKEND)
#: Field of the registration form → the LMS's message if its value is taken.
_TAKEN = {
    "username": "It looks like this username is already taken",
    "email": "This email is already associated with an existing account",
}


class ApplicationRequests(Protocol):
    """The requests that the LMS sends to the application. Both methods return the learner's
    username, or None if the application rejects the token or the code."""

    async def me(self, token: str) -> str | None: ...

    async def exchange(self, code: str, redirect_uri: str) -> str | None: ...


@dataclass
class SignIn:
    """Registration, sign-in and OAuth endpoints of the benchmark LMS.

    application: sends requests to the application. If it is None, the LMS accepts every token
    and code, and signs in the learner who registered last."""

    world: World
    application: ApplicationRequests | None

    # Registration

    async def register(self, request: Request) -> Response:
        """Creates a learner's account and signs the learner in, if the application knows the access
        token in the form."""
        form = request.form()
        username = form.get("username", "")
        if self.application is not None:
            profile = await self.application.me(form.get("access_token", ""))
            if profile != username:
                message = [{"user_message": "The provided access_token is not valid."}]
                error = {"access_token": message, "error_code": "tpa-invalid-access-token"}
                return as_json(error, status=400)
        refusal = self._refuse_if_taken(username, form.get("email", ""))
        if refusal is not None:
            return refusal
        account = self.world.add_account(
            username,
            form["email"],
            name=form.get("name", ""),
            country=form.get("country", ""),
            uid=username,
        )
        self.world.requests[f"made:{username.lower()}"] += 1
        body = {
            "authenticated_user": {
                "username": username,
                "full_name": account.name,
                "user_id": account.id,
            },
            "success": True,
            "redirect_url": "/dashboard",
        }
        return as_json(body, headers=[self.world.open_session(Session(username))])

    def _refuse_if_taken(self, username: str, email: str) -> Response | None:
        """The refusal of a registration whose username or address is taken; None if it isn't."""
        conflicts = []
        if email.lower() in self.world.by_email:
            conflicts.append("email")
        if username.lower() in self.world.accounts:
            conflicts.append("username")
        if not conflicts:
            return None
        body: dict[str, object] = {name: [{"user_message": _TAKEN[name]}] for name in conflicts}
        if "username" in conflicts:
            # As the platform makes them: at most 30 characters, with any numbers.
            body["username_suggestions"] = [f"{username[:26]}_{n}" for n in (1, 41, 664)]
        body["error_code"] = "duplicate-" + "-".join(conflicts)
        return as_json(body, status=409)

    # Sign-in

    def start(self, request: Request) -> Response:
        state = secrets.token_hex(16)
        session = Session(state=state, next_url=request.params().get("next", LmsPath.DASHBOARD))
        query = {
            "client_id": self.world.client_id,
            "redirect_uri": self._redirect_uri(request, state),
            "state": state,
            "response_type": "code",
            "scope": "user:read",
        }
        location = f"{self.world.application_url}/oauth2/authorize/?{urlencode(query)}"
        return redirect(location, [self.world.open_session(session)])

    def _redirect_uri(self, request: Request, state: str) -> str:
        return f"http://{request.headers['host']}{COMPLETE}?redirect_state={state}"

    async def complete(self, request: Request) -> Response:
        """Signs in the learner to whom the application's code belongs. Each sign-in needs two
        requests, as in the platform."""
        session = self.world.sessions.get(request.cookie("sessionid"))
        if session is None:
            return redirect(LmsPath.LOGIN)

        params = request.params()
        is_second_request = "code" not in params
        if is_second_request:
            return redirect(session.next_url if session.username else LmsPath.LOGIN)

        if not session.state or params.get("state") != session.state:
            return Response(400, b"", kind="text/html; charset=utf-8")
        uid = await self._username_of_code(request, params["code"], session.state)
        if not uid:
            return redirect(LmsPath.LOGIN)
        account = self.world.by_uid.get(uid)
        if account is None:
            return redirect(LmsPath.REGISTER)
        if not account.is_active:
            return Response(403, b"Your account is disabled", kind="text/html; charset=utf-8")
        session.username = account.username
        return redirect(COMPLETE + "?")

    async def _username_of_code(self, request: Request, code: str, state: str) -> str | None:
        """The learner's username in the application; None if the application rejects the code."""
        if self.application is None:
            return self.world.last_registered
        return await self.application.exchange(code, self._redirect_uri(request, state))

    def dashboard(self, request: Request) -> Response:
        if not self._signed_in_username(request):
            return redirect(f"{LmsPath.LOGIN}?next=/dashboard")
        return Response(200, b"<title>Dashboard</title>", kind="text/html; charset=utf-8")

    def _signed_in_username(self, request: Request) -> str:
        """The username of the browser's session; '' without sign-in."""
        session = self.world.sessions.get(request.cookie("sessionid"))
        return session.username if session else ""

    # The LMS as provider

    def authorize(self, request: Request) -> Response:
        """Redirects to the application with a code for the learner who is signed in."""
        params = request.params()
        if params.get("client_id") != self.world.oauth_client_id:
            return as_json({"error": "invalid_request"}, 400)
        username = self._signed_in_username(request)
        if not username:
            return redirect(f"{LmsPath.LOGIN}?{urlencode({'next': request.target})}")
        code = secrets.token_urlsafe(22)
        self.world.codes[code] = username
        return redirect(f"{params['redirect_uri']}?{urlencode({'code': code})}")

    def token(self, request: Request) -> Response:
        """Exchanges a code or a refresh token, each of which is valid once, for new tokens."""
        form = request.form()
        is_known_client = form.get("client_id") == self.world.oauth_client_id
        if not is_known_client or form.get("client_secret") != self.world.oauth_client_secret:
            return as_json({"error": "invalid_client"}, 401)
        if form.get("grant_type") == "refresh_token":
            username = self.world.refresh.pop(form.get("refresh_token", ""), "")
        else:
            username = self.world.codes.pop(form.get("code", ""), "")
        if not username:
            return as_json({"error": "invalid_grant"}, 400)
        return as_json(self.world.give_tokens(username))
