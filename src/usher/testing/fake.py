"""``usher_fake_lms``: an LMS in memory, for tests that need only accounts and enrollments."""

from __future__ import annotations

import json
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

    demo_run = connection.DEMO_RUN
    e2e_run = connection.E2E_RUN

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        # The client accepts answers only from an LMS that shows the service worker's account.
        self._accounts: dict[str, Item] = {
            connection.SERVICE_WORKER: {
                "username": connection.SERVICE_WORKER,
                "email": "worker@example.org",
                "is_active": True,
            }
        }
        #: Username and course key → mode, and whether the enrollment is active.
        self._enrollments: dict[tuple[str, str], tuple[str, bool]] = {}
        #: Course key → error code and message with which enrollments in the run are refused.
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
        """From now on, refuses all enrollments in this run with this error code and message, but no
        unenrollment. Raises TypeError for an argument that is not text, such as a course run."""
        for value in (course_key, code, message):
            if not isinstance(value, str):
                raise TypeError(
                    "refuse() takes a course key, such as run.course_key, an error code and a "
                    f"message, not {value!r}."
                )
        self._refusals[course_key] = (code, message)

    def go_down(self) -> None:
        """Stops answering requests until ``come_up`` is called."""
        self._is_down = True

    def come_up(self) -> None:
        """Answers requests again. Also ends the client's pauses after failures, so that it sends
        requests immediately."""
        self._is_down = False
        connection.forget_clients()

    # Called by the LMS client, for which this is a transport of httpx

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
        """Status and JSON of the answer. Raises AssertionError for any request that is not known
        here."""
        if request.method == "POST":
            if path == LmsPath.USHER_ACCOUNTS:
                return 200, self._save_items(request, self._save_account)
            if path == LmsPath.USHER_ENROLLMENTS:
                return 200, self._save_items(request, self._save_enrollment)
        if request.method == "GET":
            if path == LmsPath.USHER_API:
                return 200, {"version": 1, "capabilities": ["accounts", "enrollments"]}
            if path == LmsPath.ENROLLMENTS:
                usernames = request.url.params.get("username", "").split(",")
                return 200, self._page_of_enrollments(usernames)
            if path.startswith(LmsPath.ENROLLMENT + "/"):
                return self._enrollment_answer(path.removeprefix(LmsPath.ENROLLMENT + "/"))
            if path.startswith(LmsPath.ACCOUNTS):
                return self._accounts_answer(path, request.url.params)
        raise AssertionError(
            f"usher_fake_lms does not answer {request.method} {path}. Use the fixture usher_lms, a "
            "real embedded LMS."
        )

    def _accounts_answer(self, path: str, params: httpx.QueryParams) -> tuple[int, Any]:
        """The account in the path, or all accounts with a username or e-mail address in the query;
        404 if there is none, as in the LMS."""
        username = path.removeprefix(LmsPath.ACCOUNTS).strip("/")
        if username:
            account = self._accounts.get(username)
            return (200, account) if account else (404, {})
        names = params.get("username", "").split(",")
        email = params.get("email")
        items = []
        for name, account in self._accounts.items():
            has_email = email and account["email"] == email
            if name in names or has_email:
                items.append(account)
        return (200, items) if items else (404, {})

    def _enrollment_answer(self, learner_and_run: str) -> tuple[int, Any]:
        """Status and JSON. learner_and_run: username and course key, separated by a comma."""
        username, _, run = learner_and_run.partition(",")
        mode, is_active = self._enrollments.get((username, run), ("", False))
        if not mode:
            return 200, None  # the LMS's answer about a learner who was never enrolled
        return 200, {"mode": mode, "is_active": is_active, "user": username}

    def _page_of_enrollments(self, usernames: list[str]) -> Item:
        """One page with all enrollments of these learners."""
        items = [
            {"user": name, "course_id": run, "mode": mode, "is_active": is_active}
            for (name, run), (mode, is_active) in self._enrollments.items()
            if name in usernames
        ]
        return {"next": None, "previous": None, "results": items}

    def _save_items(self, request: httpx.Request, save: Callable[[Item], Item]) -> Item:
        """Saves each item of a batch with ``save``. Returns the answer of the batch API."""
        items = json.loads(request.content)["items"]
        return {"results": [save(item) for item in items]}

    def _save_account(self, item: Item) -> Item:
        """Creates or updates an account. Returns the batch API's result for the item."""
        name = item["username"]
        existing = self._accounts.get(name)
        account = existing or {
            "username": name,
            "id": len(self._accounts) + 1,
            "date_joined": datetime.now(UTC).isoformat(),
        }
        # An account that was deactivated stays inactive unless the item says otherwise.
        may_activate = existing is None or existing["is_active"] or item.get("reactivate", False)
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
            "status": "updated" if existing else "created",
            "username": name,
            "lms_user_id": account["id"],
            "is_active": self._accounts[name]["is_active"],
            "error": None,
            "tokens": tokens if item.get("tokens") else None,
        }

    def _save_enrollment(self, item: Item) -> Item:
        """Saves or refuses an enrollment. Returns the batch API's result for the item."""
        key = (item["username"], item["course_id"])
        result: Item = {"id": item["id"], "mode": None, "is_active": None, "error": None}
        refusal = self._refusals.get(item["course_id"])
        if item["username"] not in self._accounts:
            refusal = ("unknown-user", f"The user {item['username']} does not exist.")
        if refusal and item["is_active"]:  # leaving a run is never refused
            code, message = refusal
            error = {"code": code, "message": message}
            return result | {"status": "refused", "error": error}
        existing = self._enrollments.get(key)
        current_mode = existing[0] if existing else "audit"
        mode = item["mode"] or current_mode
        saved = (mode, item["is_active"])
        self._enrollments[key] = saved
        status = "unchanged" if existing == saved else "changed"
        return result | {"status": status, "mode": mode, "is_active": item["is_active"]}
