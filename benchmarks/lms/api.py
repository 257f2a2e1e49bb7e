"""The public APIs of accounts, enrollments and runs. Their answers have the shape of those recorded
from a real LMS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.lms.server import Request, Response, as_json
from benchmarks.lms.world import MODES, Account, World
from usher.contract.paths import LmsPath

_PROFILE_IMAGES = {
    f"image_url_{size}": "/static/default.png" for size in ("full", "large", "small")
}

SERVICE_WORKER = "service-worker"
_DATE_JOINED = "2020-01-01T00:00:00Z"


@dataclass
class PublicApi:
    world: World

    # Accounts

    def me(self, request: Request) -> Response:
        username = self._caller(request)
        return as_json({"username": username}) if username else _unauthorized()

    def account(self, request: Request) -> Response:
        """GET: several accounts by username, or one by username or e-mail address. PATCH: changes
        name and country, only with the learner's own token."""
        caller = self._caller(request)
        if not caller:
            return _unauthorized()
        params = request.params()
        if params.get("username"):
            return self._accounts_named(params["username"].split(","))
        username = request.path.removeprefix(LmsPath.ACCOUNTS).strip("/")
        if username:
            account = self.world.accounts.get(username.lower())
        else:
            account = self.world.by_email.get(params.get("email", "").lower())
        if account is None:
            return Response(404)
        if request.method == "PATCH":
            if caller != account.username:
                return Response(403)
            changes = request.json()
            account.name = changes.get("name", account.name)
            account.country = changes.get("country", account.country)
        return as_json(_account_data(account))

    def _accounts_named(self, names: list[str]) -> Response:
        """The accounts of these usernames that exist."""
        items = []
        for name in names:
            account = self._account_named(name)
            if account is not None:
                items.append(_account_data(account))
        return as_json(items)

    def _account_named(self, name: str) -> Account | None:
        """The account of a learner or of the service worker, which the client requests as evidence
        that the LMS shows accounts; None if there is none."""
        if name == SERVICE_WORKER:
            return Account(
                id=0,
                username=name,
                email=f"{name}@lms.example",
                name=name,
                country="",
                uid="",
                date_joined=_DATE_JOINED,
            )
        return self.world.accounts.get(name.lower())

    def deactivate(self, request: Request) -> Response:
        """Deactivates the account whose username follows the path of accounts."""
        if request.token != self.world.service_token:
            return _unauthorized()
        name = request.path.removeprefix(LmsPath.ACCOUNTS).split("/")[1]
        account = self.world.accounts.get(name.lower())
        if account is None:
            return Response(404)
        account.is_active = False
        return as_json({"username": account.username, "is_active": False})

    def _caller(self, request: Request) -> str:
        """The username of the request's token; '' for an unknown token."""
        if request.token == self.world.service_token:
            return SERVICE_WORKER
        return self.world.access.get(request.token, "")

    # Enrollments

    def enroll(self, request: Request) -> Response:
        """Creates or changes an enrollment."""
        if request.token != self.world.service_token:
            return _unauthorized()
        body = request.json()
        username = body["user"]
        key = body["course_details"]["course_id"]
        if username.lower() not in self.world.accounts:
            return as_json({"message": f"The user {username} does not exist."}, 406)
        try:
            mode, is_active = set_enrollment(self.world, username, key, body)
        except Refused as refusal:
            return as_json({"message": str(refusal)}, 400)
        return as_json(self._enrollment(username, key, mode, is_active))

    def enrollment(self, request: Request) -> Response:
        if request.token != self.world.service_token:
            return _unauthorized()
        username, _, key = request.path.removeprefix(LmsPath.ENROLLMENT + "/").partition(",")
        enrollment = self.world.enrollments.get((username, key))
        if enrollment is None:
            return Response(200)  # the platform's answer about a missing enrollment: an empty body
        return as_json(self._enrollment(username, key, enrollment.mode, enrollment.is_active))

    def _enrollment(self, username: str, key: str, mode: str, is_active: bool) -> dict[str, Any]:
        return {
            "created": self.world.enrollments[username, key].created,
            "mode": mode,
            "is_active": is_active,
            "course_details": {
                "course_id": key,
                "course_name": "Bench Course",
                "enrollment_start": None,
                "enrollment_end": None,
                "course_start": "2026-01-01T00:00:00Z",
                "course_end": None,
                "invite_only": False,
                "course_modes": [_mode_of_enrollment(slug) for slug in MODES],
                "pacing_type": "Self Paced",
            },
            "user": username,
        }

    def enrollments(self, request: Request) -> Response:
        """All enrollments of the named learners, in one page."""
        if request.token != self.world.service_token:
            return _unauthorized()
        items = []
        for username in request.params().get("username", "").split(","):
            for key in self.world.by_user.get(username, ()):
                enrollment = self.world.enrollments[username, key]
                items.append(
                    {
                        "created": enrollment.created,
                        "mode": enrollment.mode,
                        "is_active": enrollment.is_active,
                        "user": username,
                        "course_id": key,
                    }
                )
        return as_json({"next": None, "previous": None, "results": items})

    # Runs

    def courses(self, request: Request) -> Response:
        params = request.params()
        if "course_keys" in params:
            return self._courses_by_key(request)
        number = int(params.get("page", 1))
        if not 1 <= number <= len(self.world.pages):
            return as_json({"detail": "Invalid page."}, 404)
        return Response(200, self.world.pages[number - 1])

    def _courses_by_key(self, request: Request) -> Response:
        from urllib.parse import parse_qs

        keys = parse_qs(request.query)["course_keys"]
        runs = [self.world.runs[key] for key in keys if key in self.world.runs]
        pagination = {"next": None, "previous": None, "count": len(runs), "num_pages": 1}
        return as_json({"results": runs, "pagination": pagination})

    def modes(self, request: Request) -> Response:
        """The modes of the run in the path; empty for an unknown run."""
        key = request.path.split("/courses/")[1].strip("/")
        if key not in self.world.runs:
            return as_json([])
        return as_json([_mode_of_run(key, slug) for slug in MODES])


class Refused(Exception):
    """The LMS refuses an enrollment. The exception's text is the LMS's message."""


def set_enrollment(world: World, username: str, key: str, body: dict[str, Any]) -> tuple[str, bool]:
    """Changes an enrollment as the platform does. Returns its mode, and whether it is active.
    Raises Refused."""
    enrollment = world.enrollments.get((username, key))
    mode = body.get("mode")
    is_active = body.get("is_active", True)
    if key not in world.runs:
        raise Refused(f"No course '{key}' found for enrollment")
    if mode and mode not in MODES:
        raise Refused(
            f"The [{mode}] course mode is expired or otherwise unavailable for course run [{key}]."
        )
    current_mode, is_enrolled = enrollment.state if enrollment else ("audit", False)
    unenrolls = is_enrolled and not is_active
    if unenrolls and mode and mode != current_mode:
        raise Refused(
            f"Enrollment mode mismatch: active mode={current_mode}, requested mode={mode}. "
            "Won't deactivate."
        )
    return world.enroll(username, key, mode or current_mode, bool(is_active)).state


def _unauthorized() -> Response:
    return as_json({"detail": "Authentication credentials were not provided."}, 401)


def _mode_of_run(key: str, slug: str) -> dict[str, Any]:
    """A mode as in the API of course modes."""
    return {
        "course_id": key,
        "mode_slug": slug,
        "mode_display_name": slug.title(),
        "min_price": 49 if slug == "verified" else 0,
        "currency": "usd",
        "expiration_datetime": None,
        "expiration_datetime_is_explicit": False,
        "description": None,
        "sku": None,
        "bulk_sku": None,
    }


def _mode_of_enrollment(slug: str) -> dict[str, Any]:
    """A mode as in an enrollment."""
    return {
        "slug": slug,
        "name": slug.title(),
        "min_price": 49 if slug == "verified" else 0,
        "suggested_prices": "",
        "currency": "usd",
        "expiration_datetime": None,
        "description": None,
        "sku": None,
        "bulk_sku": None,
    }


def _account_data(account: Account) -> dict[str, Any]:
    return {
        "account_privacy": "private",
        "profile_image": {"has_image": False, **_PROFILE_IMAGES},
        "username": account.username,
        "bio": None,
        "country": account.country or None,
        "date_joined": account.date_joined,
        "language_proficiencies": [],
        "level_of_education": None,
        "social_links": [],
        "time_zone": None,
        "name": account.name,
        "email": account.email,
        "id": account.id,
        "is_active": account.is_active,
        "last_login": None,
    }
