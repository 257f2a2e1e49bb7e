"""The batch API, as ``usher.lms`` answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.lms.api import Refused, set_enrollment
from benchmarks.lms.server import Request, Response, as_json
from benchmarks.lms.world import World
from usher.contract.limits import BATCH_ITEMS_A_REQUEST


@dataclass
class BatchApi:
    """The batch API of the benchmark LMS. has_plugin: False for an LMS without ``usher.lms``, which
    answers every request with 404."""

    world: World
    has_plugin: bool

    def capabilities(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(404, b"<title>Not Found</title>", kind="text/html; charset=utf-8")
        return as_json(
            {
                "version": 1,
                "release": "benchmark",
                "capabilities": ["accounts", "enrollments", "course-runs", "tokens"],
                "max_items": BATCH_ITEMS_A_REQUEST,
                "applications": [],
            }
        )

    def accounts(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(404)
        return as_json({"results": [self._account(item) for item in request.json()["items"]]})

    def enrollments(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(404)
        return as_json({"results": [self._enrollment(item) for item in request.json()["items"]]})

    def _is_authorized(self, request: Request) -> bool:
        return self.has_plugin and request.token == self.world.service_token

    def _account(self, item: dict[str, Any]) -> dict[str, Any]:
        """Creates the item's account, or changes whether it is active. Returns the result."""
        username = item["username"]
        is_active = item.get("is_active", True)
        account = self.world.by_uid.get(username)
        if account is not None:
            may_be_active = account.is_active or item.get("reactivate", False)
            is_active = is_active and may_be_active
            status = "exists" if is_active == account.is_active else "updated"
        else:
            conflicts = self._conflicts(item)
            if conflicts:
                code = "duplicate-" + "-".join(conflicts)
                result = _refused_result(item, code, f"{conflicts[0]} is taken")
                return {**result, "username": username}
            account = self.world.add_account(
                username,
                item["email"],
                name=item.get("name", ""),
                country=item.get("country", ""),
                uid=username,
            )
            self.world.requests[f"made:{username.lower()}"] += 1
            status = "created"
        account.is_active = is_active
        return {
            "id": item["id"],
            "status": status,
            "username": account.username,
            "lms_user_id": account.id,
            "is_active": account.is_active,
            "error": None,
            "tokens": self.world.give_tokens(account.username) if item.get("tokens") else None,
        }

    def _conflicts(self, item: dict[str, Any]) -> list[str]:
        """Which of ``email`` and ``username`` are taken."""
        conflicts = []
        if item["email"].lower() in self.world.by_email:
            conflicts.append("email")
        if item["username"].lower() in self.world.accounts:
            conflicts.append("username")
        return conflicts

    def _enrollment(self, item: dict[str, Any]) -> dict[str, Any]:
        """Changes the item's enrollment. Returns the result."""
        username, key = item["username"], item["course_id"]
        if username.lower() not in self.world.accounts:
            return _refused_result(item, "unknown-user", f"The user {username} does not exist.")
        enrollment = self.world.enrollments.get((username, key))
        if enrollment is None and not item["is_active"]:
            return _refused_result(item, "not-enrolled", f"{username} is not enrolled in {key}.")
        before = enrollment.state if enrollment else None
        body = {**item, "mode": item["mode"] or None}
        try:
            after = set_enrollment(self.world, username, key, body)
        except Refused as refusal:
            # The code is the same for a refused mode; the message says what was refused.
            return _refused_result(item, "unknown-run", str(refusal))
        mode, is_active = after
        return {
            "id": item["id"],
            "status": "unchanged" if before == after else "changed",
            "mode": mode,
            "is_active": is_active,
            "error": None,
        }


def _refused_result(item: dict[str, Any], code: str, message: str) -> dict[str, Any]:
    error = {"code": code, "message": message, "suggestions": []}
    return {"id": item["id"], "status": "refused", "tokens": None, "error": error}
