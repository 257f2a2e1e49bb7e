"""For all tests: settings that save time, and the database of tests that use Django."""

import functools
import logging
import os
import ssl
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from usher.cli.demo.database import copy_migrated

CAMPUS = Path(__file__).resolve().parents[1] / "campus"

# Texts name the program usher by its path if a shell does not find it.
os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)

# Otherwise each of a thousand clients reads all certificates of the machine.
ssl.create_default_context = functools.cache(ssl.create_default_context)

# Without deadlines, so that no test fails because the machine is busy.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")

DATABASE_FIXTURES = {"db", "transactional_db", "live_server"}
LMS_FIXTURES = {"lms_server", "plugin_lms", "system_with_each_api"}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run only tests whose result may depend on the database"
    parser.addoption("--only-database", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    text = "any_database: does not depend on the database, so it need not run twice"
    config.addinivalue_line("markers", text)
    text = "each_database: uses an LMS, and depends on what the database stores or locks"
    config.addinivalue_line("markers", text)
    if config.getoption("ds", None):
        from django.conf import settings
        from django.contrib.auth.hashers import PBKDF2PasswordHasher

        # The hasher is slow on purpose; tests make hundreds of passwords.
        PBKDF2PasswordHasher.iterations = 1
        # Django looks for a static file when it is requested. Otherwise every test client scans all
        # static files when it is created.
        settings.WHITENOISE_AUTOREFRESH = True


def pytest_sessionstart(session: pytest.Session) -> None:
    """Removes the log handler of the reference application. pytest itself shows what a failed test
    has logged, and would show it a second time as output."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if handler.name != "out"]
    if session.config.getoption("ds", None):
        from django.conf import settings

        settings.LOGGING["root"]["handlers"] = []  # for tests that configure logging again


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("only_database"):
        left_out = [item for item in items if not _depends_on_database(item)]
        items[:] = [item for item in items if _depends_on_database(item)]
        config.hook.pytest_deselected(items=left_out)


def _depends_on_database(item: pytest.Item) -> bool:
    """Whether to run the test with each database. Tests that use an LMS are mostly about requests
    and answers, so of these only the ones marked ``each_database`` are run with each database."""
    names = set(getattr(item, "fixturenames", ()))
    if not (DATABASE_FIXTURES & names or item.get_closest_marker("django_db")):
        return False
    if item.get_closest_marker("each_database"):
        return True
    return not (LMS_FIXTURES & names or item.get_closest_marker("any_database"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Creates permissions only once, not again after each test that empties the tables; after such
    a test there are none."""
    from django.db.models.signals import post_migrate

    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Gives each worker its own database.

    SQLite uses a file, a copy of a migrated database, which ``django_db_keepdb`` keeps. With a
    database in memory all threads share one connection, so a test and the thread that serves its
    pages would see each other's uncommitted changes.
    """
    from django.conf import settings

    for number, database in enumerate(settings.DATABASES.values()):
        if database["ENGINE"].endswith("sqlite3"):
            target = tmp_path_factory.mktemp("database") / f"test{number}.sqlite3"
            copy_migrated(CAMPUS, target)
            database.setdefault("TEST", {})["NAME"] = str(target)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Keeps the SQLite database, a copy of a migrated one. Otherwise Django would create a new
    one."""
    from django.conf import settings

    return all(database["ENGINE"].endswith("sqlite3") for database in settings.DATABASES.values())
