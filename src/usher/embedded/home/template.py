"""A migrated, empty SQLite database, created once for each set of migrations and cached."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import django

import usher
from usher.embedded.conf.files import HOME_VARIABLE, SECRETS_FILE, SETTINGS_FILE


def cached_template(name: str, version: str, make: Callable[[Path], None]) -> Path:
    """The path of a database file in the user's cache. If the file is missing, calls ``make`` with
    the path; ``make`` must write the file. Waits while another process creates the file.

    name: the cache folder. version: identifies the content, so that a new version is a new file.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_home) / "usher" / name
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{version}.sqlite3"
    if target.exists():
        return target
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            make(target)
    return target


def _migrations() -> list[Path]:
    """The migration files of Usher's own apps. Migrations of libraries change only with the
    libraries' versions, which ``_version`` includes."""
    root = Path(usher.__path__[0])
    paths = [*root.glob("embedded/*/migrations/*.py"), *root.glob("lms/**/migrations/*.py")]
    return sorted(paths)


def _version(plugins: tuple[str, ...]) -> str:
    """A hash of everything on which the migrated database depends."""
    import oauth2_provider
    import social_django

    digest = hashlib.sha256(json.dumps(plugins).encode())
    for version in (django.__version__, oauth2_provider.__version__, social_django.__version__):
        digest.update(version.encode())
    for path in _migrations():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _migrate(target: Path, plugins: tuple[str, ...]) -> None:
    """Write a new database with all migrations to ``target``, by means of a temporary LMS
    folder."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder_name:
        folder = Path(folder_name)
        secrets = {
            "SECRET_KEY": "template",
            # No token is signed with this key.
            "JWT_PRIVATE_SIGNING_JWK": {"kty": "RSA", "kid": "", "n": "", "e": ""},
        }
        (folder / SECRETS_FILE).write_text(json.dumps(secrets))
        (folder / SETTINGS_FILE).write_text(json.dumps({"EMBEDDED_PLUGINS": list(plugins)}))
        environment = {
            **os.environ,
            HOME_VARIABLE: str(folder),
            "DJANGO_SETTINGS_MODULE": "usher.embedded.settings",
        }
        command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"migrating a new LMS database failed:\n{result.stderr[-2000:]}")
        (folder / "db.sqlite3").rename(target)


def migrated_database(plugins: tuple[str, ...]) -> Path:
    """The path of the database; creates the database if it is missing."""
    return cached_template(
        "lms-template", _version(plugins), lambda target: _migrate(target, plugins)
    )


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file, readable by its owner only. A copy that fails, for example on a full disk,
    leaves no incomplete file that a later process would use. Raises OSError."""
    partial_copy = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, partial_copy)
        partial_copy.chmod(0o600)
        partial_copy.replace(target)
    except OSError:
        partial_copy.unlink(missing_ok=True)
        raise
