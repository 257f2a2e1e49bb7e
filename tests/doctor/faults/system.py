"""A running application and LMS, examined by doctor. Tests inject faults and remove them."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.doctor.faults.manage_process import ManageProcess
from usher.cli.demo.pair import Pair
from usher.client import batch
from usher.contract import envfile
from usher.doctor.context import Places, create_context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.runner import Report, run

#: Seconds to wait for a database that another process is using.
BUSY_SECONDS = 120


class _OriginalFile(NamedTuple):
    """The content of a file of settings before a test changed it. server: ``lms`` or
    ``application``, which reads the file."""

    server: str
    content: bytes


class System:
    """A running application and LMS. lms, application: their ``manage.py``. places: the addresses
    and paths that an operator would give to doctor."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.lms = ManageProcess(pair.lms_home, pair.lms_environment)
        self.application = ManageProcess(pair.campus_folder, pair.application_environment)
        self.places = Places(
            lms_url=pair.lms_url,
            application_url=pair.application_url,
            env_file=pair.env_file,
            manage=self.application,
            lms_manage=self.lms,
        )
        self._original_files: dict[Path, _OriginalFile] = {}
        self._lms_database = next(pair.lms_home.glob("*.sqlite3"))
        self._application_database = next(pair.application_home.glob("*.sqlite3"))

    def examine(self, **replaced_places: Any) -> Report:
        """Doctor's report. replaced_places: values that replace those of ``places``."""
        with create_context(replace(self.places, **replaced_places)) as context:
            # The application's report is read first, because doctor's request for the LMS's report
            # makes the LMS try the token endpoint, which may change the application's facts.
            with suppress(NotKnownError):
                _ = context.application.report  # runs manage.py
            return run(context)

    def root_cause_ids(self, **replaced_places: Any) -> list[str]:
        """Ids of the root causes that doctor finds."""
        return [line.id for line in self.examine(**replaced_places).root_causes]

    # -- the databases

    def remember(self) -> None:
        """Copies both databases, for ``restore_records``."""
        for path in (self._lms_database, self._application_database):
            _copy(path, _copy_path(path))

    def restore_records(self) -> None:
        """Restores both databases to their state at ``remember``, while the processes use them. The
        times at which the worker last did something become now."""
        for path in (self._lms_database, self._application_database):
            _copy(_copy_path(path), path)
        _keep_worker_times_current(self._application_database)

    def wait_for_worker(self) -> None:
        """Waits until the worker reports that it is alive. A worker that is still starting does not
        handle signals."""
        deadline = time.monotonic() + 60
        earlier_report_time = self._last_report_time()
        while self._last_report_time() == earlier_report_time:
            assert time.monotonic() < deadline, "the worker does not report"
            time.sleep(0.2)

    def _last_report_time(self) -> str:
        """When the worker last reported that it is alive."""
        with sqlite3.connect(self._application_database, timeout=BUSY_SECONDS) as connection:
            query = "SELECT asked_at FROM usher_engine_watermark WHERE what = 'worker'"
            (asked_at,) = connection.execute(query).fetchone()
        connection.close()
        return str(asked_at)

    # -- the settings

    def serve_lms_with(self, **settings: Any) -> None:
        """Restarts the LMS with these settings in its ``lms.env.yml``, and restores both databases.
        ``restore_settings`` undoes the change."""
        original = self._remember_file(self.pair.lms_home / "lms.env.yml", "lms")
        changed = {**yaml.safe_load(original), **settings}
        (self.pair.lms_home / "lms.env.yml").write_text(yaml.safe_dump(changed))
        self._restart("lms")

    def serve_application_with(self, **values: str) -> None:
        """Restarts the application with these values in its ``.env``, and restores both databases.
        ``restore_settings`` undoes the change."""
        # From the original file: values of an earlier call don't stay.
        envfile.write_private(
            self.pair.env_file, self._remember_file(self.pair.env_file, "application")
        )
        envfile.update(self.pair.env_file, values)
        self._restart("application")

    def restore_settings(self) -> None:
        """If a test has changed the settings of the application or the LMS, restarts it with its
        original settings and restores both databases."""
        for path, original in list(self._original_files.items()):
            path.write_bytes(original.content)
            self._restart(original.server)
            del self._original_files[path]

    def has_other_settings(self, name: str) -> bool:
        """Whether ``lms`` or ``application`` now has other settings than its original ones."""
        return any(original.server == name for original in self._original_files.values())

    def _remember_file(self, path: Path, server: str) -> bytes:
        """Keeps the original content of the server's file, for ``restore_settings``, and returns
        it."""
        file = _OriginalFile(server, path.read_bytes())
        return self._original_files.setdefault(path, file).content

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Stops ``lms``, ``application`` or ``worker``, and starts it again afterwards."""
        server = self.pair.server(name)
        server.stop()
        try:
            yield
        finally:
            server.start()
            server.wait_until_ready()

    def _restart(self, name: str) -> None:
        """Restarts ``lms`` or ``application``, and restores both databases."""
        (self.lms if name == "lms" else self.application).close()
        with self.stopped(name):
            pass
        self.restore_records()  # meanwhile the worker has recorded that the LMS did not answer

    def close(self) -> None:
        self.lms.close()
        self.application.close()


def _keep_worker_times_current(database: Path) -> None:
    """Sets the times of the worker's last report and of its last requests for the LMS's changes to
    now.

    Without the times of these requests, the worker's next request would list everything, and the
    worker would repair the faults that a test injects.
    """
    lists, now = (batch.ACCOUNTS, batch.ENROLLMENTS, batch.COURSE_RUNS), datetime.now(UTC)
    stored = now.replace(tzinfo=None).isoformat(" ")
    with sqlite3.connect(database, timeout=BUSY_SECONDS) as connection:
        connection.execute(
            "UPDATE usher_engine_watermark SET asked_at = ? WHERE what = 'worker'", [stored]
        )
        connection.executemany(
            "INSERT INTO usher_engine_watermark (what, since, asked_at) VALUES (?, ?, ?) "
            "ON CONFLICT (what) DO UPDATE SET since = excluded.since, asked_at = excluded.asked_at",
            [(name, now.isoformat(), stored) for name in lists],
        )
    connection.close()


def _copy_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.kept")


def _copy(source: Path, target: Path) -> None:
    # SQLite's own backup is atomic for processes that have the target open.
    with (
        sqlite3.connect(source, timeout=BUSY_SECONDS) as source_connection,
        sqlite3.connect(target, timeout=BUSY_SECONDS) as target_connection,
    ):
        source_connection.backup(target_connection)
    source_connection.close()
    target_connection.close()
    target.chmod(0o600)
