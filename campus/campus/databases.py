"""Reads ``DATABASE_URL`` into Django's database settings. The default: SQLite in campus's home."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from usher.application.defaults import sqlite_options


def database(url: str, home: Path) -> dict[str, Any]:
    """The settings of a database. url: ``postgresql://user:password@host:port/name?option=value``,
    ``sqlite:///path`` or '', which is SQLite in ``home``. For a Unix socket, write its folder as
    ``?host=/run/postgresql``.

    Raises ImproperlyConfigured for other URLs. The error does not contain the URL, which may have a
    password.
    """
    if not url:
        return _sqlite(home / "campus.sqlite3")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message contains a part of the URL
        raise ImproperlyConfigured("DATABASE_URL has a malformed host.") from None
    if parts.scheme == "sqlite":
        return _sqlite(Path(unquote(parts.path[1:]) or home / "campus.sqlite3"))
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            f"DATABASE_URL starts with {parts.scheme!r}: write postgresql://… or sqlite:///…"
        )
    options = dict(parse_qsl(parts.query))
    try:
        port = parts.port or options.pop("port", "")
    except ValueError:
        raise ImproperlyConfigured("DATABASE_URL has a port that is not a number.") from None
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", "") or parts.hostname or "",
        "PORT": str(port),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def _sqlite(path: Path) -> dict[str, Any]:
    """SQLite for several processes: readers don't wait for the writer, and writers wait for each
    other."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,  # connections stay open
        "OPTIONS": sqlite_options(),
    }
