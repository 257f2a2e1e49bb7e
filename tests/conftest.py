"""For all tests: settings that save time, and the database of tests in Django's own process."""

import functools
import ssl
from pathlib import Path

import pytest

from usher.cli.demo.database import copy_migrated

CAMPUS = Path(__file__).resolve().parents[1] / "campus"

# Reads every certificate of the machine, for each of a thousand clients.
ssl.create_default_context = functools.cache(ssl.create_default_context)

DATABASE_FIXTURES = {"db", "transactional_db", "live_server"}
LMS_FIXTURES = {"lms_server", "plugin_lms"}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "only tests for which the database matters: the others needn't run again with another"
    parser.addoption("--only-database", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    text = "any_database: about what is sent and answered; once is enough, whatever the database"
    config.addinivalue_line("markers", text)
    text = "each_database: asks an LMS, and what it stores or locks differs by database"
    config.addinivalue_line("markers", text)
    if config.getoption("ds", None):
        from django.conf import settings
        from django.contrib.auth.hashers import PBKDF2PasswordHasher

        # Slow, so that nobody guesses people's passwords; tests make hundreds.
        PBKDF2PasswordHasher.iterations = 1
        # Static files are looked for when asked for; otherwise every test client reads all of them.
        settings.WHITENOISE_AUTOREFRESH = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("only_database"):
        left_out = [item for item in items if not _minds_database(item)]
        items[:] = [item for item in items if _minds_database(item)]
        config.hook.pytest_deselected(items=left_out)


def _minds_database(item: pytest.Item) -> bool:
    """Tests that ask an LMS are mostly about what is sent and answered: one that is about the
    database says so."""
    names = set(getattr(item, "fixturenames", ()))
    if not (DATABASE_FIXTURES & names or item.get_closest_marker("django_db")):
        return False
    if item.get_closest_marker("each_database"):
        return True
    return not (names & (LMS_FIXTURES | {"screen"}) or item.get_closest_marker("any_database"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Permissions are made once, not anew after each test that empties the tables."""
    from django.db.models.signals import post_migrate

    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """A database for each worker. SQLite in a file, not in memory: a database in memory is one
    connection for all threads, and tests that serve pages from a thread would see each other's
    transactions."""
    from django.conf import settings

    for number, database in enumerate(settings.DATABASES.values()):
        if database["ENGINE"].endswith("sqlite3"):
            target = tmp_path_factory.mktemp("database") / f"test{number}.sqlite3"
            copy_migrated(CAMPUS, target)
            database.setdefault("TEST", {})["NAME"] = str(target)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Where the database is a copy of a migrated one."""
    from django.conf import settings

    return all(one["ENGINE"].endswith("sqlite3") for one in settings.DATABASES.values())
