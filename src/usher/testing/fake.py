"""``usher_fake_lms``: an LMS in memory, for tests that need only accounts and enrollments."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx

from usher.contract.paths import LmsPath
from usher.testing import connection

URL = "http://fake-lms.invalid"
Item = dict[str, Any]


class UsherFakeLms:
    """An LMS in memory with the batch API for accounts and enrollments, and nothing else.

    requests: method and path of each request so far. demo_run, e2e_run: keys of its course runs.
    """

    demo_run, e2e_run = connection.DEMO_RUN, connection.E2E_RUN
    #: ``usher.client.connection.Transport`` has it; here every request is answered at once.
    deadline = math.inf

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        # The client accepts only answers of an LMS that shows the service worker's account.
        self._accounts: dict[str, Item] = {
            connection.SERVICE_WORKER: {
                "username": connection.SERVICE_WORKER,
                "email": "worker@example.org",
                "is_active": True,
            }
        }
        self._enrollments: dict[tuple[str, str], tuple[str, bool]] = {}
        self._refusals: dict[str, tuple[str, str]] = {}
        self._is_down = False

    # For tests

    def account(self, user: Any) -> Item | None:
        """The learner's account; None if there is none."""
        return self._accounts.get(connection.lms_username(user))

    def enrollments(self, user: Any) -> dict[str, str]:
        """Course key → mode, of the learner's active enrollments."""
        name = connection.lms_username(user)
        return {
            run: mode
            for (username, run), (mode, is_active) in self._enrollments.items()
            if username == name and is_active
        }

    def refuse(self, course_key: str, code: str = "closed", message: str = "Refused.") -> None:
        """From now on, refuses enrollments in this run with this error code and message."""
        self._refusals[course_key] = (code, message)

    def go_down(self) -> None:
        """From now on, no request is answered, until ``come_up``."""
        self._is_down = True

    def come_up(self) -> None:
        """From now on, requests are answered again."""
        self._is_down = False

    # Called by the LMS client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answers one request. Raises httpx.ConnectError while the LMS is down."""
        if self._is_down:
            raise httpx.ConnectError("usher_fake_lms is down", request=request)
        path = unquote(request.url.path)
        self.requests.append((request.method, path))
        status, body = self._answer(request, path)
        return httpx.Response(status, json=body, request=request)

    def close(self) -> None:
        """Does nothing: there is no connection to close."""

    def _answer(self, request: httpx.Request, path: str) -> tuple[int, Any]:
        posts: dict[str, Callable[[Item], Item]] = {
            LmsPath.USHER_ACCOUNTS: self._keep_account,
            LmsPath.USHER_ENROLLMENTS: self._keep_enrollment,
        }
        if request.method == "POST" and path in posts:
            items = json.loads(request.content)["items"]
            return 200, {"results": [posts[path](item) for item in items]}
        if request.method == "GET" and path == LmsPath.USHER_API:
            return 200, {"version": 1, "capabilities": ["accounts", "enrollments"]}
        if request.method == "GET" and path == LmsPath.ENROLLMENTS:
            return 200, self._listed(request.url.params.get("username", "").split(","))
        if request.method == "GET" and path.startswith(LmsPath.ENROLLMENT + "/"):
            return self._enrollment(path.removeprefix(LmsPath.ENROLLMENT + "/"))
        if request.method == "GET" and path.startswith(LmsPath.ACCOUNTS):
            return self._shown(path, request.url.params)
        raise AssertionError(
            f"usher_fake_lms does not answer {request.method} {path}. Use the fixture usher_lms, a "
            "real embedded LMS."
        )

    def _shown(self, path: str, params: httpx.QueryParams) -> tuple[int, Any]:
        one = path.removeprefix(LmsPath.ACCOUNTS).strip("/")
        if one:
            return (200, self._accounts[one]) if one in self._accounts else (404, {})
        names, email = params.get("username", "").split(","), params.get("email")
        found = [
            account
            for name, account in self._accounts.items()
            if name in names or (email and account["email"] == email)
        ]
        return (200, found) if found else (404, {})

    def _enrollment(self, learner_and_run: str) -> tuple[int, Any]:
        username, _, run = learner_and_run.partition(",")
        mode, is_active = self._enrollments.get((username, run), ("", False))
        if not mode:
            return 200, None
        return 200, {"mode": mode, "is_active": is_active, "user": username}

    def _listed(self, usernames: list[str]) -> Item:
        found = [
            {"user": name, "course_id": run, "mode": mode, "is_active": is_active}
            for (name, run), (mode, is_active) in self._enrollments.items()
            if name in usernames
        ]
        return {"next": None, "previous": None, "results": found}

    def _keep_account(self, item: Item) -> Item:
        name = item["username"]
        before = self._accounts.get(name)
        account = before or {
            "username": name,
            "id": len(self._accounts) + 1,
            "date_joined": datetime.now(UTC).isoformat(),
        }
        may_activate = before is None or before["is_active"] or item.get("reactivate", False)
        self._accounts[name] = account | {
            **{key: item[key] for key in ("email", "name", "country")},
            "is_active": item["is_active"] and may_activate,
        }
        tokens = {
            "access_token": secrets.token_urlsafe(20),
            "refresh_token": secrets.token_urlsafe(20),
            "expires_in": 36000,
            "scope": "read write",
        }
        return {
            "id": item["id"],
            "status": "updated" if before else "created",
            "username": name,
            "lms_user_id": account["id"],
            "is_active": self._accounts[name]["is_active"],
            "error": None,
            "tokens": tokens if item.get("tokens") else None,
        }

    def _keep_enrollment(self, item: Item) -> Item:
        key = (item["username"], item["course_id"])
        result: Item = {"id": item["id"], "mode": None, "is_active": None, "error": None}
        refusal = self._refusals.get(item["course_id"])
        if item["username"] not in self._accounts:
            refusal = ("unknown-user", f"The user {item['username']} does not exist.")
        if refusal and item["is_active"]:
            error = {"code": refusal[0], "message": refusal[1]}
            return result | {"status": "refused", "error": error}
        before = self._enrollments.get(key)
        mode = item["mode"] or (before[0] if before else "audit")
        after = self._enrollments[key] = (mode, item["is_active"])
        status = "unchanged" if before == after else "changed"
        return result | {"status": status, "mode": mode, "is_active": item["is_active"]}
