"""A served LMS with the plugin, and the application it is connected to, both real."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lms.application import Application, RunningApplication
from tests.support.django_process import CommandResult, DjangoProcess
from tests.support.served import NO_LIMITS, served_lms

#: Username and token of the service worker, and the course runs of the LMS.
WORKER = "mit_Application_serviceworker"
TOKEN = "token-of-the-service-worker-" + "1" * 30
DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"
#: Rate limits that are off in tests. The limits of APIs and registration stay on, because the
#: plugin lifts them for the service worker.
PAGE_RATE_LIMITS = (
    "LOGIN_AND_REGISTER_FORM_RATELIMIT",
    "LOGISTRATION_RATELIMIT_RATE",
    "RATELIMIT_RATE",
)


@dataclass
class Lms:
    """The LMS with helpers for tests: HTTP requests, management commands and SQL."""

    folder: Path
    url: str
    application: Application
    django: DjangoProcess

    def run(self, *arguments: str, text: str = "") -> CommandResult:
        """Runs a management command, with any exit code."""
        return self.django.command(*arguments, text=text)

    def provision(self, description: dict[str, Any], *options: str) -> dict[str, Any]:
        """Runs ``usher_provision``, which must succeed, and returns its report."""
        result = self.run("usher_provision", "--file", "-", *options, text=json.dumps(description))
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Executes SQL in the LMS's database and commits. Returns the rows of a select."""
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=60)) as database:
            rows = database.execute(sql, values).fetchall()
            database.commit()
            return rows

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row; IndexError if there is no row."""
        return self.execute(sql, *values)[0][0]

    def api(self, token: str = TOKEN) -> httpx.Client:
        """A client that sends this token; the service worker's by default."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def browser(self) -> httpx.Client:
        """A browser without cookies, which follows redirects."""
        return httpx.Client(
            base_url=self.url, timeout=60, trust_env=False, follow_redirects=True, max_redirects=15
        )

    def sign_in(self, username: str, goal: str = "/api/user/v1/me", **more: Any) -> httpx.Client:
        """A browser in which the application's learner ``username`` has signed in to the LMS.

        goal: the page to open. more: changes of the application's data about the learner. The
        browser's attribute ``last`` is the last answer.
        """
        self.application.signed_in_learner = {"username": username, **person(username), **more}
        browser = self.browser()
        browser.last = browser.get(  # type: ignore[attr-defined]
            "/auth/login/mitxpro-oauth2/", params={"auth_entry": "login", "next": goal}
        )
        return browser


def person(username: str) -> dict[str, str]:
    """E-mail address and full name of the application's learner."""
    return {"email": f"{username}@learners.example", "name": f"Name {username}"}


def account(username: str, **more: Any) -> dict[str, Any]:
    """An item of the batch API for accounts."""
    return {"id": username, "username": username, **person(username), **more}


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """Waits until ``condition`` returns a true value, and returns this value. Raises AssertionError
    after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
    return found


def description(*applications: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A description for ``usher_provision`` with these applications and the tests' service
    worker."""
    worker = {"username": WORKER, "email": "worker@example.org", "token": TOKEN}
    return {"applications": list(applications), "service_worker": worker, **more}


@contextmanager
def connected_lms(**settings: Any) -> Iterator[Lms]:
    """A separate LMS with one connected application. settings: for its ``lms.env.yml``."""
    with RunningApplication() as application:
        lms_settings = {
            "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2", "xpro-oauth2": "ol-oauth2"},
            "USHER_LOGOUT_URIS": [f"{application.url}/logout/"],
            **{name: NO_LIMITS[name] for name in PAGE_RATE_LIMITS},
            **settings,
        }
        with served_lms("seed_courses", **lms_settings) as served:
            lms = Lms(served.folder, served.url, application, served.django)
            lms.provision(description(application.description()))
            yield lms


@pytest.fixture(scope="session")
def lms() -> Iterator[Lms]:
    """The LMS that all tests of a pytest worker share. Each test has its own learners and changes
    nothing else."""
    with connected_lms() as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A username that no other test has."""
    return f"u{abs(hash(str(tmp_path))) % 10**12}"
