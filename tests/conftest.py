"""For all tests: where Django's test database lies."""

from pathlib import Path

import pytest


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
            folder: Path = tmp_path_factory.mktemp("database")
            database.setdefault("TEST", {})["NAME"] = str(folder / f"test{number}.sqlite3")
