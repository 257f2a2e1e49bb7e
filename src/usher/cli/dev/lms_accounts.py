"""Reads the accounts in the LMS of an earlier start from the LMS's database, because the LMS isn't
running yet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from usher.contract.oauth import DEFAULT_BACKEND

_ACCOUNTS = """
    SELECT id, username, email, EXISTS (
        SELECT 1 FROM social_auth_usersocialauth
        WHERE user_id = auth_user.id AND provider = ? AND uid = auth_user.username
    )
    FROM auth_user WHERE NOT is_staff AND NOT is_superuser ORDER BY id
"""


def accounts_in(lms_home: Path) -> list[dict[str, Any]]:
    """A dict for each account that is not staff, with the keys lms_user_id, username, email and
    is_linked (whether the application's learner with that username signs in to this account). Empty
    if the LMS has no database yet."""
    database = lms_home / "db.sqlite3"
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(_ACCOUNTS, [DEFAULT_BACKEND]).fetchall()
    return [
        {"lms_user_id": pk, "username": username, "email": email, "is_linked": bool(is_linked)}
        for pk, username, email, is_linked in rows
    ]
