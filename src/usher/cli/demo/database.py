"""A migrated, empty SQLite database of the reference application: made once, then copied."""

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import usher
from usher.cli.demo.errors import DemoError
from usher.embedded.home.template import cached_template, copy_whole

#: Packages, apart from Usher, whose apps have tables in the database.
_PACKAGES = ("django", "django-allauth", "django-oauth-toolkit")
#: Empty values for variables that migrating must not take from the caller's environment.
_EMPTY_VARIABLES = {"DATABASE_URL": "", "REDIS_URL": "", "CELERY_BROKER_URL": ""}


def migrated_database(campus: Path) -> Path:
    """Returns the path of the template database; the first call creates it. campus: the reference
    application's folder. Raises DemoError if migrating fails."""
    return cached_template(
        "campus-template", _version(campus), lambda target: _migrate(campus, target)
    )


def copy_migrated(campus: Path, target: Path) -> None:
    """Copies the template to ``target``, mode 0600. Raises DemoError if migrating fails, and
    OSError if copying fails."""
    copy_whole(migrated_database(campus), target)


def _version(campus: Path) -> str:
    """A string that changes with the migrations, with the settings, which list the apps, and with
    the versions of other packages."""
    digest = hashlib.sha256()
    for name in _PACKAGES:
        digest.update(f"{name} {version(name)}\n".encode())
    pattern = "migrations/0*.py"
    migrations = [*campus.rglob(pattern), *Path(usher.__path__[0]).rglob(pattern)]
    for path in (campus / "campus" / "settings.py", *sorted(migrations)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _migrate(campus: Path, target: Path) -> None:
    """Creates a database at ``target`` and migrates it. Raises DemoError."""
    with tempfile.TemporaryDirectory(dir=target.parent) as home:
        environment = {
            **os.environ,
            **_EMPTY_VARIABLES,
            "CAMPUS_HOME": home,
            "CAMPUS_ENV_FILE": str(Path(home) / ".env"),
        }
        result = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0", "--skip-checks"],
            cwd=campus,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise DemoError(f"Migrating a new database failed:\n{result.stderr.strip()[-2000:]}")
        database = Path(home) / "campus.sqlite3"
        with closing(sqlite3.connect(database)) as connection:
            # Without WAL the database is a single file, which can be copied and read into memory.
            # The application turns WAL on again.
            connection.execute("PRAGMA journal_mode = DELETE")
        database.rename(target)
