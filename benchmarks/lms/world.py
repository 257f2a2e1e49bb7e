"""The data of the benchmark LMS, in memory: accounts, sessions, tokens, enrollments, runs."""

from __future__ import annotations

import itertools
import json
import math
import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

#: Course runs on a page of the course list.
PAGE_SIZE = 100
MODES = ("audit", "verified")


@dataclass(slots=True)
class Account:
    """uid: the learner's username in the application; '' for an account that is not linked."""

    id: int
    username: str
    email: str
    name: str
    country: str
    uid: str
    date_joined: str
    is_active: bool = True


@dataclass(slots=True)
class Session:
    """username: '' until signed in. state: the value that the application must send back with the
    code. next_url: the address to open after sign-in."""

    username: str = ""
    state: str = ""
    next_url: str = ""


@dataclass(slots=True)
class Enrollment:
    """created: when the learner was first enrolled, ISO."""

    mode: str
    is_active: bool
    created: str

    @property
    def state(self) -> tuple[str, bool]:
        """The mode, and whether the enrollment is active."""
        return self.mode, self.is_active


@dataclass
class World:
    """The LMS's records. by_email, by_uid: the accounts by e-mail address, and by the learner's uid
    in the application. codes, access, refresh: code or token → username. enrollments: by
    username and course key. by_user: username → course keys. requests: method and path → number of
    requests; ``made:<username>`` → how often the account was created. sessions: value of the
    cookie → session. runs: course key → run, as in the course list. pages: the pages of the course
    list, as JSON. last_registered: the username of the newest account. client_id,
    oauth_login_secret: of the LMS's client in the application. oauth_client_id,
    oauth_client_secret: of the application's client in the LMS."""

    application_url: str
    client_id: str
    oauth_client_id: str
    oauth_client_secret: str
    service_token: str
    oauth_login_secret: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    by_email: dict[str, Account] = field(default_factory=dict)
    by_uid: dict[str, Account] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)
    refresh: dict[str, str] = field(default_factory=dict)
    enrollments: dict[tuple[str, str], Enrollment] = field(default_factory=dict)
    by_user: dict[str, list[str]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pages: list[bytes] = field(default_factory=list)
    last_registered: str = ""
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def add_account(
        self, username: str, email: str, *, name: str = "", country: str = "", uid: str = ""
    ) -> Account:
        """Creates an account. uid: '' for an account that is not linked."""
        account = Account(next(self._ids), username, email, name, country, uid, moment())
        self.accounts[username.lower()] = account
        self.by_email[email.lower()] = account
        if uid:
            self.by_uid[uid] = account
        self.last_registered = username
        return account

    def open_session(self, session: Session) -> tuple[str, str]:
        """Stores the session. Returns the header that sets its cookie."""
        key = secrets.token_hex(16)
        self.sessions[key] = session
        return ("Set-Cookie", f"sessionid={key}; HttpOnly; Path=/; SameSite=Lax")

    def give_tokens(self, username: str) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(22), secrets.token_urlsafe(22)
        self.access[access] = self.refresh[refresh] = username
        return {
            "access_token": access,
            "expires_in": 36000,
            "token_type": "Bearer",
            "scope": "read write",
            "refresh_token": refresh,
        }

    def enroll(self, username: str, key: str, mode: str, is_active: bool) -> Enrollment:
        """Creates or changes the learner's enrollment in this run, and returns it."""
        enrollment = self.enrollments.get((username, key))
        if enrollment is None:
            enrollment = Enrollment(mode, is_active, created=moment())
            self.enrollments[username, key] = enrollment
            self.by_user.setdefault(username, []).append(key)
        else:
            enrollment.mode, enrollment.is_active = mode, is_active
        return enrollment

    def delete_all_but_runs(self) -> None:
        """Deletes accounts, sessions, tokens and enrollments, and resets the counts."""
        empty = World(
            application_url=self.application_url,
            client_id=self.client_id,
            oauth_client_id=self.oauth_client_id,
            oauth_client_secret=self.oauth_client_secret,
            service_token=self.service_token,
            oauth_login_secret=self.oauth_login_secret,
            runs=self.runs,
            pages=self.pages,
        )
        for name, value in vars(empty).items():
            setattr(self, name, value)

    # Runs

    def make_runs(self, count: int) -> None:
        self.runs = {}
        for number in range(count):
            run = run_of(number)
            self.runs[run["course_id"]] = run
        self.render_pages()

    def change_runs(self, one_in: int, mark: str) -> int:
        """Changes title and end of one run in ``one_in`` runs. mark: a text for the titles, which
        differs from call to call. Returns the number of changed runs."""
        changed = list(self.runs.values())[::one_in]
        for run in changed:
            run["name"] = f"{run['name'].partition(' (')[0]} ({mark})"
            run["end"] = moment(timedelta(days=400 + hash(mark) % 100))
        self.render_pages()
        return len(changed)

    def render_pages(self) -> None:
        """Renders the pages in advance, so that answers take almost no time."""
        runs = list(self.runs.values())
        page_count = max(1, math.ceil(len(runs) / PAGE_SIZE))
        self.pages = []
        for number in range(1, page_count + 1):
            is_last = number == page_count
            page = {
                "results": runs[(number - 1) * PAGE_SIZE : number * PAGE_SIZE],
                "pagination": {
                    "next": None if is_last else f"/api/courses/v1/courses/?page={number + 1}",
                    "previous": None,
                    "count": len(runs),
                    "num_pages": page_count,
                },
            }
            self.pages.append(json.dumps(page, separators=(",", ":")).encode())


def moment(ahead: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + ahead).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def run_of(number: int) -> dict[str, Any]:
    """A run as in the course list that was recorded from a real LMS."""
    key = f"course-v1:BenchX+C{number:05}+2026_T1"
    image = "http://lms.example/static/img.png"
    return {
        "blocks_url": f"http://lms.example/api/courses/v2/blocks/?course_id={key}",
        "effort": "",
        "end": "2027-01-01T00:00:00Z",
        "enrollment_start": "2025-06-01T00:00:00Z",
        "enrollment_end": "2026-12-31T00:00:00Z",
        "id": key,
        "media": {
            "banner_image": {"uri": "", "uri_absolute": ""},
            "course_image": {"uri": "/static/img.png"},
            "course_video": {"uri": ""},
            "image": {"raw": image, "small": image, "large": image},
        },
        "name": f"Bench Course {number}",
        "number": f"C{number:05}",
        "org": "BenchX",
        "short_description": "",
        "start": "2026-01-01T00:00:00Z",
        "start_display": "Jan. 1, 2026",
        "start_type": "timestamp",
        "pacing": "self",
        "mobile_available": False,
        "hidden": False,
        "invitation_only": False,
        "course_id": key,
    }
