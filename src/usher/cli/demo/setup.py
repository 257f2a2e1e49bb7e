"""The steps of the demo that set up the application and the LMS and connect them."""

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from usher.cli.demo import connection, prepared
from usher.cli.demo.credentials import Credentials
from usher.cli.demo.database import copy_migrated
from usher.cli.demo.errors import DemoError
from usher.contract import envfile
from usher.contract.provisioning import Description

if TYPE_CHECKING:
    from usher.cli.demo.pair import Pair

#: Username of the superuser that ``configure_instance`` creates.
APPLICATION_SUPERUSER = "admin"


@dataclass(frozen=True)
class Step:
    """One step and its result. id: its name. seconds: wall time. detail: one line for people."""

    id: str
    ok: bool
    seconds: float
    detail: str


class SetUp:
    """Sets up the application and the LMS of ``pair``. report: called after each step. begin:
    called with the name of each step before it."""

    def __init__(
        self,
        pair: "Pair",
        report: Callable[[Step], None],
        begin: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.pair = pair
        self.report = report
        self.begin = begin
        #: Set after an error or an interrupt: then no part begins another step.
        self._stopping = threading.Event()

    def run(self) -> None:
        """Reads or makes the pair's credentials. Then sets up the application and the LMS at the
        same time, unless an earlier start has done this. Raises DemoError at the first step that
        fails."""
        pair = self.pair
        for folder in (pair.application_home, pair.lms_home):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # databases with sessions, and mail with codes
        pair.credentials = Credentials.load_or_make(pair.home)
        if prepared.is_prepared(pair.home, self._fingerprint()):
            self.report(
                Step(
                    id="prepared",
                    ok=True,
                    seconds=0.0,
                    detail=f"uses the data of the earlier start in {pair.home}",
                )
            )
            return
        self._run_step("application-settings", self._write_environment)
        self._run_at_the_same_time(self._set_up_lms, self._set_up_application)
        prepared.save_record(pair.home, self._fingerprint())

    def _run_at_the_same_time(self, *parts: Callable[[], None]) -> None:
        """Runs each part in a thread. After an error or an interrupt, no part begins another
        step.

        The first part begins after all threads are started. Otherwise an interrupt could come while
        a thread starts, and the pool would not wait for this thread."""
        begin = threading.Event()

        def after_all_started(part: Callable[[], None]) -> None:
            begin.wait()
            part()

        with ThreadPoolExecutor(len(parts)) as pool:
            try:
                futures = [pool.submit(after_all_started, part) for part in parts]
                begin.set()
                for future in futures:
                    future.result()
            except BaseException:
                self._stopping.set()
                raise
            finally:
                begin.set()  # a thread must not wait for ever

    def restore(self) -> None:
        """Restores the settings and records of the first start. Data and learners stay. Raises
        DemoError."""
        self.pair.credentials = Credentials.load_or_make(self.pair.home)
        self._run_step("application-settings", self._write_environment)
        self._run_step("lms-settings", self._initialize_lms)
        self._run_step("lms-provisioning", self._provision_lms)
        self._run_step("application-oauth-record", self._configure_instance)

    def _set_up_lms(self) -> None:
        self._run_step("lms-database", self._initialize_lms)
        self._run_step("lms-courses", self._seed_courses)
        self._run_step("lms-provisioning", self._provision_lms)

    def _set_up_application(self) -> None:
        self._run_step("application-database", self._migrate_application)
        self._run_step("application-oauth-record", self._configure_instance)

    def _run_step(self, name: str, action: Callable[[], str]) -> None:
        """Does one step and reports its success. action: returns one line for people. Raises
        DemoError, also if another part has stopped the set-up."""
        if self._stopping.is_set():
            raise DemoError("The demo is stopping.")
        self.begin(name)
        started = time.monotonic()
        detail = action()
        self.report(Step(id=name, ok=True, seconds=time.monotonic() - started, detail=detail))

    # -- the LMS

    def _initialize_lms(self) -> str:
        self.pair.initialize_lms()
        return "tables and settings of the embedded LMS"

    def _seed_courses(self) -> str:
        self.pair.manage_lms("seed_courses")
        return "Demonstration Course and E2E Test Course"

    def _provision_lms(self) -> str:
        description = self.describe()
        out = self.pair.manage_lms("usher_provision", "--file", "-", stdin=description.to_json())
        changed_records = json.loads(out)["changed"]
        return (
            f"superuser, service worker, provider record, OAuth2 client; "
            f"{changed_records} changed in the LMS"
        )

    def describe(self) -> Description:
        """The records that the LMS needs for this application."""
        pair = self.pair
        return connection.describe(pair.edition.name, pair.application_url, pair.credentials)

    # -- the application

    def _write_environment(self) -> str:
        pair = self.pair
        values = connection.environment(pair.lms_url, pair.credentials)
        envfile.update(pair.env_file, values)
        return f"wrote {len(values)} settings to the .env of the reference application"

    def _migrate_application(self) -> str:
        """Migrates the application's database. A new SQLite database is copied, which is faster."""
        pair = self.pair
        database = pair.application_home / "campus.sqlite3"
        has_own_database = "DATABASE_URL" in {**os.environ, **pair.application_environment}
        if has_own_database or database.exists():
            pair.manage_application("migrate", "--verbosity", "0")
        else:
            copy_migrated(pair.campus_folder, database)
        return f"tables of the reference application ({pair.edition.title} edition)"

    def _configure_instance(self) -> str:
        # Secrets are passed by environment or standard input: every user can see arguments.
        credentials = self.pair.credentials
        out = self.pair.manage_application(
            "configure_instance",
            "--json",
            "none",  # platform: the LMS does not run in containers
            "--no-input",
            "--skip-checks",  # the worker runs them
            # With "=", because the id may begin with a dash.
            f"--edx-oauth-client={credentials.lms_client_id}",
            extra={
                "USHER_EDX_OAUTH_SECRET": credentials.lms_client_secret,
                "DJANGO_SUPERUSER_PASSWORD": credentials.superuser_password,
                "USHER_TEST_LEARNER_PASSWORD": credentials.learner_password,
            },
        )
        results = json.loads(out)
        changed_records = len(results["created_users"]) + results["client_changed"]
        return (
            "superuser, test learner, the LMS's OAuth2 client; "
            f"{changed_records} changed in the application"
        )

    # -- data of an earlier start

    def _fingerprint(self) -> str:
        """A string that changes with the addresses and secrets, and if a database is deleted."""
        pair = self.pair
        databases = [
            str(bool(list(home.glob("*.sqlite3"))))
            for home in (pair.application_home, pair.lms_home)
        ]
        return prepared.fingerprint(
            repr(asdict(pair.addresses)),
            pair.edition.name,
            repr(pair.credentials),
            *databases,
            folders=[pair.campus_folder],
        )
