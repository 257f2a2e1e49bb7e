"""The LMS's database: SQLite in the LMS folder, or the database that a URL names.

MySQL and MariaDB need the package mysqlclient, which is not installed with Usher.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

#: With WAL, readers don't wait for a writer. IMMEDIATE takes the write lock at the start of a
#: transaction, so that two transactions wait for each other instead of failing.
_SQLITE_OPTIONS = {
    "timeout": 30,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}

_ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def database(folder: Path, url: str = "") -> dict[str, Any]:
    """Django's settings of the database. url: the LMS's setting DATABASE_URL; if the setting is '',
    the environment variable LMS_DATABASE_URL is used. Without a URL the database is SQLite in
    ``folder``. Raises ValueError for another kind of database."""
    url = url or os.environ.get("LMS_DATABASE_URL", "")
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "db.sqlite3"),
            "OPTIONS": dict(_SQLITE_OPTIONS),
            "CONN_MAX_AGE": 600,
        }
    parts = urlsplit(url)
    engine = _ENGINES.get(parts.scheme)
    if engine is None:
        raise ValueError(
            f"the LMS's database must be PostgreSQL, MySQL, MariaDB or SQLite, not {parts.scheme}"
        )
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "mysql":
        # As in Tutor's settings.
        query.setdefault("init_command", "SET sql_mode='STRICT_TRANS_TABLES'")
    return {
        "ENGINE": engine,
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "OPTIONS": query,
        "CONN_MAX_AGE": 60,
    }
