"""The demo copies a migrated database instead of migrating one."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from usher.cli.demo import database
from usher.cli.demo.pair import Pair
from usher.contract.editions import MITXONLINE

CAMPUS = Path(__file__).resolve().parents[2] / "campus"


def test_the_copied_database_is_migrated_empty_and_private(tmp_path: Path) -> None:
    copy = tmp_path / "campus.sqlite3"
    database.copy_migrated(CAMPUS, copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM usher_lmsaccount").fetchone() == (0,)
    pair = Pair(tmp_path, MITXONLINE)
    pair.application_home.mkdir()
    copy.rename(pair.application_home / "campus.sqlite3")
    pair.manage_application("migrate", "--check")  # fails where a migration is missing


def test_a_template_database_is_created_once_for_each_state_of_the_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    created: list[Path] = []

    def create(_campus: Path, target: Path) -> None:
        created.append(target)
        target.write_text("a database")

    monkeypatch.setattr(database, "_migrate", create)
    campus = tmp_path / "campus"
    migrations = campus / "accounts" / "migrations"
    migrations.mkdir(parents=True)
    (campus / "campus").mkdir()
    (campus / "campus/settings.py").write_text("INSTALLED_APPS = []")
    first = database.migrated_database(campus)
    assert database.migrated_database(campus) == first
    assert created == [first]
    (migrations / "0002_more.py").write_text("operations = []")
    second = database.migrated_database(campus)
    assert created == [first, second]
