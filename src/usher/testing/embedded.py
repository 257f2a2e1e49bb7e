"""``usher_lms``: a real embedded LMS, started once for the test session."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from usher.contract import oauth
from usher.contract.applications import application_built_on_usher
from usher.contract.paths import LmsPath
from usher.contract.provisioning import Description, ServiceWorker
from usher.testing import connection

#: No rate limits, because all tests send their requests from one IP address.
_NO_LIMITS: dict[str, Any] = {
    "API_THROTTLE_RATES": {
        "course_list": {"user": None, "staff": None},
        "enrollment": {"user": None, "staff": None},
    },
    "REGISTRATION_RATELIMIT": None,
    "REGISTRATION_VALIDATION_RATELIMIT": None,
    "LOGIN_AND_REGISTER_FORM_RATELIMIT": None,
    "LOGISTRATION_RATELIMIT_RATE": None,
    "RATELIMIT_RATE": None,
}


class UsherLms:
    """The embedded LMS of a test. url: its address. demo_run, e2e_run: keys of its course runs.

    Learners are passed as users of the project's user model.
    """

    demo_run = connection.DEMO_RUN
    e2e_run = connection.E2E_RUN

    def __init__(self, url: str, database: Path) -> None:
        """database: the LMS's SQLite file."""
        self.url = url
        self._database = database
        self._snapshot = database.with_suffix(".snapshot")
        self._api = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {connection.SERVICE_TOKEN}"},
            timeout=30,
            trust_env=False,
        )

    def account(self, user: Any) -> dict[str, Any] | None:
        """The learner's account, as JSON of the LMS's accounts API; None if there is none. Raises
        ``httpx.HTTPStatusError`` if the LMS answers with another error."""
        answer = self._api.get(f"{LmsPath.ACCOUNTS}/{connection.lms_username(user)}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return dict(answer.json())

    def enrollments(self, user: Any) -> dict[str, str]:
        """Course key → mode, of the learner's active enrollments."""
        params = {"username": connection.lms_username(user)}
        answer = self._api.get(LmsPath.ENROLLMENTS, params=params)
        answer.raise_for_status()
        return {
            result["course_id"]: result["mode"]
            for result in answer.json()["results"]
            if result["is_active"]
        }

    def save_snapshot(self) -> None:
        """Saves the present state of the LMS for ``reset``."""
        with (
            closing(sqlite3.connect(self._database)) as database,
            closing(sqlite3.connect(self._snapshot)) as snapshot,
        ):
            database.backup(snapshot)

    def reset(self) -> None:
        """Restores the state that ``save_snapshot`` saved. Accounts, enrollments and sessions
        created since then are removed."""
        with closing(sqlite3.connect(self._database, timeout=20, isolation_level=None)) as database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("ATTACH ? AS snapshot", (str(self._snapshot),))
            table_names = database.execute(
                "SELECT name FROM snapshot.sqlite_master WHERE type = 'table' "
                "AND name NOT LIKE 'sqlite_%'"
            )
            database.execute("BEGIN IMMEDIATE")
            for (name,) in table_names.fetchall():
                table = '"' + name.replace('"', '""') + '"'
                database.execute(f"DELETE FROM main.{table}")  # noqa: S608 - names of its own tables
                database.execute(f"INSERT INTO main.{table} SELECT * FROM snapshot.{table}")  # noqa: S608
            database.execute("COMMIT")

    def close(self) -> None:
        """Closes the connections to the LMS."""
        self._api.close()


@contextmanager
def embedded(folder: Path, application_url: str) -> Iterator[UsherLms]:
    """Creates an LMS in ``folder``, connected to the application at ``application_url``, and serves
    it until the block ends. Then deletes the folder, which stays after an error."""
    from usher.embedded.home import folder as lms_folder
    from usher.embedded.home.process import free_port, running_lms

    port = free_port()
    backend = oauth.DEFAULT_BACKEND
    plan = lms_folder.Plan(
        root_url=f"http://127.0.0.1:{port}",
        application_url=application_url,
        settings={**_NO_LIMITS, "USHER_BACKENDS": {backend: backend}},
        cheap_passwords=True,
    )
    lms_folder.make(folder, plan)
    lms_folder.manage(folder, "seed_courses")
    description_json = _describe(application_url).to_json()
    lms_folder.manage(folder, "usher_provision", "--file", "-", text=description_json)
    with running_lms(folder, port) as url:
        lms = UsherLms(url, folder / "db.sqlite3")
        try:
            lms.save_snapshot()
            yield lms
        finally:
            lms.close()
    shutil.rmtree(folder, ignore_errors=True)


def _describe(root_url: str) -> Description:
    """The records that the LMS needs of the application at ``root_url``."""
    application = application_built_on_usher(
        name="tests",
        root_url=root_url,
        client_id=connection.LMS_CLIENT_ID,
        client_secret=connection.LMS_CLIENT_SECRET,
        oauth_client_id=connection.CLIENT_ID,
        oauth_client_secret=connection.CLIENT_SECRET,
        webhook_secret=connection.WEBHOOK_SECRET,
    )
    service_worker = ServiceWorker(
        username=connection.SERVICE_WORKER,
        email="worker@example.org",
        token=connection.SERVICE_TOKEN,
    )
    return Description(applications=[application], service_worker=service_worker)
