"""Creates an LMS folder: settings, secrets, ``manage.py``, and a database with initial data."""

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from usher.contract.envfile import write_private
from usher.contract.oauth import BACKENDS
from usher.embedded.conf.files import HOME_VARIABLE, SECRETS_FILE, SETTINGS_FILE
from usher.embedded.conf.jwt import new_private_jwk
from usher.embedded.home import template

_MANAGE_PY = '''#!{python}
"""Commands of this LMS, with or without the word ``lms``, as in edx-platform."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["USHER_LMS_HOME"] = str(Path(__file__).resolve().parent)
    from usher.embedded.home.commands import main

    main(sys.argv)
'''


#: The management command that creates or updates the database of a folder.
PREPARE = ("prepare_lms",)


class FolderError(RuntimeError):
    """The folder can't be created or used; the message names the folder and the cause."""


@dataclass(frozen=True)
class Plan:
    """root_url: the LMS's own address, with its port. application_url: the application's address;
    '' if there is none yet. plugins: names of the plugins' entry points. features, settings:
    override the defaults in ``lms.env.yml``. cheap_passwords: hash passwords with one round, for
    benchmarks and tests only."""

    root_url: str
    application_url: str = ""
    plugins: tuple[str, ...] = ("usher",)
    features: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    cheap_passwords: bool = False


def environment(folder: Path) -> dict[str, str]:
    """Environment variables for a process of the LMS in ``folder``."""
    return {
        **os.environ,
        HOME_VARIABLE: str(folder.resolve()),
        "DJANGO_SETTINGS_MODULE": "usher.embedded.settings",
    }


def _initial_settings(plan: Plan) -> dict[str, Any]:
    """The content of ``lms.env.yml``. Raises FolderError for a malformed root URL."""
    address = urlsplit(plan.root_url)
    if address.scheme not in {"http", "https"} or not address.netloc:
        raise FolderError(f"{plan.root_url!r} is not an address like http://lms.example:8000")
    root = f"{address.scheme}://{address.netloc}"
    application = plan.application_url.rstrip("/")
    settings: dict[str, Any] = {
        "LMS_BASE": address.netloc,
        "LMS_ROOT_URL": root,
        "EMBEDDED_PLUGINS": list(plan.plugins),
        "FEATURES": dict(plan.features),
        "THIRD_PARTY_AUTH_BACKENDS": [backend.class_path for backend in BACKENDS.values()],
        "IDA_LOGOUT_URI_LIST": [f"{application}/logout/"] if application else [],
        "LOGIN_REDIRECT_WHITELIST": [urlsplit(application).netloc] if application else [],
    }
    if plan.cheap_passwords:
        settings["PASSWORD_HASHERS"] = [
            "usher.embedded.core.hashers.CheapPasswordHasher",
            "usher.embedded.core.hashers.RandomSecretHasher",
        ]
    return {**settings, **plan.settings}


def make(folder: Path, plan: Plan) -> None:
    """Create the LMS folder and its database, or update them. An existing LMS keeps its secrets and
    its data. Raises FolderError."""
    write(folder, plan)
    manage(folder, *PREPARE)


def write(folder: Path, plan: Plan) -> None:
    """Do what :func:`make` does, but don't run the management command ``PREPARE``. Raises
    FolderError."""
    settings = _initial_settings(plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SECRETS_FILE).exists():
            secret = {
                "SECRET_KEY": secrets.token_urlsafe(48),
                "JWT_PRIVATE_SIGNING_JWK": new_private_jwk(),
            }
            write_private(folder / SECRETS_FILE, json.dumps(secret).encode())
        text = yaml.safe_dump(settings, sort_keys=True, allow_unicode=True)
        # Mode 0600: the settings may contain DATABASE_URL or SOCIAL_AUTH_OAUTH_SECRETS.
        write_private(folder / SETTINGS_FILE, text.encode())
        manage_py = _MANAGE_PY.format(python=sys.executable).encode()
        write_private(folder / "manage.py", manage_py, mode=0o755)
    except OSError as error:
        raise FolderError(f"the LMS folder {folder} can't be created: {error}") from error
    if not settings.get("DATABASE_URL") and not os.environ.get("LMS_DATABASE_URL"):
        _copy_template(folder, plan)


def _copy_template(folder: Path, plan: Plan) -> None:
    """Copy a migrated database into the folder, unless the folder has a database. Migrating a new
    database would take seconds."""
    database = folder / "db.sqlite3"
    if not database.exists():
        try:
            template.copy_whole(template.migrated_database(plan.plugins), database)
        except OSError as error:
            raise FolderError(f"the database {database} can't be created: {error}") from error


def manage(folder: Path, *arguments: str, text: str | None = None) -> str:
    """Run a management command of the LMS; return its output. text: standard input of the command.
    Raises FolderError."""
    result = subprocess.run(
        [sys.executable, str(folder / "manage.py"), *arguments],
        env=environment(folder),
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise FolderError(
            f"`manage.py {arguments[0]}` failed in {folder}:\n{result.stderr.strip()[-2000:]}"
        )
    return result.stdout
