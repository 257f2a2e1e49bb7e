"""Lists what changed since a given time, page by page.

Changes come from the log of messages (the outbox). Everything is listed if no time is given, if the
log does not reach back to that time, or if the plugin is disabled and writes no log. An item may be
listed twice, each time with its current state.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone
from social_django.models import UserSocialAuth

from usher.contract.events import EventType
from usher.lms import conf
from usher.lms.connections.models import ConnectedApplication
from usher.lms.events.models import Message
from usher.lms.events.sender import RETENTION
from usher.lms.settings.apply import is_enabled

#: ``now()`` is this far in the past, because a transaction that is still open may commit a change
#: that it logged earlier.
OVERLAP = timedelta(seconds=60)
#: The items of a page, and the cursor of the next page; None on the last page.
Page = tuple[list[dict[str, Any]], str | None]
#: Primary keys with more digits may not fit into the database's type.
_MAX_KEY_DIGITS = 18
#: How the cursors of lists begin that are read from the log. All pages of a list come from the same
#: source, since the keys of messages and of objects have nothing to do with each other.
_LOG_CURSOR = "log-"
#: The log must reach back this much further than ``since``, so that none of its messages is deleted
#: while a client reads page after page.
_TIME_FOR_PAGES = timedelta(hours=1)


class CursorError(ValueError):
    """The cursor was not issued by this API."""


def now() -> datetime:
    """The value for ``changed_since`` in the next request."""
    return timezone.now() - OVERLAP


def list_accounts(
    application: ConnectedApplication, since: datetime | None, cursor: str, limit: int
) -> Page:
    """A page of the application's learners' accounts, and the next page's cursor or None. The
    accounts are those that the log names, or all, if the log does not cover the time since
    ``since``. Raises CursorError."""
    if _is_read_from_log(application, since, cursor):
        messages, next_cursor = _logged_changes(
            application, EventType.ACCOUNT, since, cursor, limit
        )
        return _describe_accounts(application, _linked_uids(application, messages)), next_cursor
    links = UserSocialAuth.objects.filter(
        provider=application.backend, pk__gt=_primary_key_after(cursor)
    )
    page = list(links.order_by("pk").values_list("pk", "uid")[:limit])
    keys, uids = [pk for pk, _ in page], [uid for _, uid in page]
    next_cursor = str(keys[-1]) if len(page) == limit else None
    return _describe_accounts(application, uids), next_cursor


def list_enrollments(
    application: ConnectedApplication, since: datetime | None, cursor: str, limit: int
) -> Page:
    """A page of the application's learners' enrollments, including inactive ones, and the next
    page's cursor or None. The enrollments are those that the log names, or all, if the log does not
    cover the time since ``since``. Raises CursorError."""
    model = conf.platform().enrollment_model()
    learners = UserSocialAuth.objects.filter(provider=application.backend).values("user_id")
    if _is_read_from_log(application, since, cursor):
        messages, next_cursor = _logged_changes(
            application, EventType.ENROLLMENT, since, cursor, limit
        )
        pairs = list(dict.fromkeys((m.username, m.course_id) for m in messages))
        rows = model.objects.filter(
            user__username__in={name for name, _ in pairs},
            # The log may name a learner who has been unlinked since.
            user_id__in=learners,
            course_id__in={_course_key(course_id) for _, course_id in pairs},
        )
        descriptions = {
            (row["username"], row["course_id"]): row for row in _describe_enrollments(rows)
        }
        return [descriptions[pair] for pair in pairs if pair in descriptions], next_cursor
    rows = model.objects.filter(user_id__in=learners, pk__gt=_primary_key_after(cursor)).order_by(
        "pk"
    )
    page = list(rows.values_list("pk", flat=True)[:limit])
    next_cursor = str(page[-1]) if len(page) == limit else None
    description = _describe_enrollments(model.objects.filter(pk__in=page).order_by("pk"))
    return description, next_cursor


def list_course_runs(since: datetime | None, cursor: str, limit: int) -> Page:
    """A page of course runs with their modes, in the order of their keys, and the next page's
    cursor or None. since: only runs that changed since then; None for all. Raises CursorError."""
    rows = conf.platform().course_overview_model().objects.order_by("id")
    if since is not None:
        rows = rows.filter(modified__gte=since)
    if cursor:
        rows = rows.filter(id__gt=_course_key(cursor))
    page = list(rows.values(*RUN_FIELDS)[:limit])
    modes = _modes_by_run([row["id"] for row in page])
    results = [_describe_run(row, modes.get(str(row["id"]), [])) for row in page]
    return results, results[-1]["course_id"] if len(page) == limit else None


RUN_FIELDS = (
    "id",
    "display_name",
    "start",
    "end",
    "enrollment_start",
    "enrollment_end",
    "self_paced",
    "invitation_only",
    "modified",
)


def _is_read_from_log(
    application: ConnectedApplication, since: datetime | None, cursor: str
) -> bool:
    """Whether the list comes from the log: as its first page did, or if the log has all changes
    since that time. A ``since`` of None asks for everything, which no log has."""
    if since is None:
        return False
    if cursor:
        return cursor.startswith(_LOG_CURSOR)
    if not is_enabled(settings):
        return False  # the plugin is disabled and writes no log
    oldest = timezone.now() - RETENTION + _TIME_FOR_PAGES
    return since >= max(application.created, oldest)


def _logged_changes(
    application: ConnectedApplication,
    kind: EventType,
    since: datetime | None,
    cursor: str,
    limit: int,
) -> tuple[list[Message], str | None]:
    """A page of messages, and the cursor of the next page; None on the last page. since: not
    None, as ``_is_read_from_log`` has checked."""
    rows = Message.objects.filter(
        application=application,
        type=kind.value,
        created__gte=since,
        pk__gt=_primary_key_after(cursor.removeprefix(_LOG_CURSOR)),
    )
    page = list(rows.order_by("pk")[:limit])
    return page, f"{_LOG_CURSOR}{page[-1].pk}" if len(page) == limit else None


def _linked_uids(application: ConnectedApplication, messages: list[Message]) -> list[str]:
    """The uids with which the accounts in these messages are linked now. A message has the LMS
    username, which differs from the uid if staff have renamed the account."""
    names = list(dict.fromkeys(message.username for message in messages))
    links = UserSocialAuth.objects.filter(
        provider=application.backend, user__username__in=names
    ).values_list("user__username", "uid")
    uids_by_name: dict[str, list[str]] = {}
    for name, uid in links:
        uids_by_name.setdefault(name, []).append(uid)
    return [uid for name in names for uid in uids_by_name.get(name, [])]


def _primary_key_after(cursor: str) -> int:
    """The primary key after which the page begins. Raises CursorError."""
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_KEY_DIGITS):
        raise CursorError("Not a cursor of this API.")
    return int(cursor)


def _course_key(text: str) -> Any:
    """The course key in a cursor or in the log. Raises CursorError for malformed text."""
    try:
        return conf.platform().course_key(text)
    except ValueError as error:
        raise CursorError("Not a cursor of this API.") from error


def _describe_accounts(application: ConnectedApplication, uids: list[str]) -> list[dict[str, Any]]:
    """The items of a page, in the order of ``uids``; learners who have no link now are left out."""
    links = UserSocialAuth.objects.filter(provider=application.backend, uid__in=uids)
    users = dict(links.values_list("uid", "user_id"))
    rows = get_user_model().objects.filter(pk__in=users.values())
    fields = ("pk", "username", "email", "is_active", "profile__name", "profile__country")
    rows_by_pk = {row["pk"]: row for row in rows.values(*fields)}
    return [
        {
            "id": uid,
            "username": rows_by_pk[users[uid]]["username"],
            "lms_user_id": users[uid],
            "email": rows_by_pk[users[uid]]["email"],
            "name": rows_by_pk[users[uid]]["profile__name"] or "",
            "country": str(rows_by_pk[users[uid]]["profile__country"] or ""),
            "is_active": rows_by_pk[users[uid]]["is_active"],
        }
        for uid in uids
        if users.get(uid) in rows_by_pk
    ]


def _describe_enrollments(rows: Any) -> list[dict[str, Any]]:
    fields = ("user__username", "course_id", "mode", "is_active", "created")
    return [
        {
            "username": row["user__username"],
            "course_id": str(row["course_id"]),
            "mode": row["mode"],
            "is_active": row["is_active"],
            "created": _as_text(row["created"]),
        }
        for row in rows.values(*fields)
    ]


def _describe_run(row: dict[str, Any], modes: list[dict[str, Any]]) -> dict[str, Any]:
    description: dict[str, Any] = {
        "course_id": str(row["id"]),
        "name": row["display_name"],
        "pacing": "self" if row["self_paced"] else "instructor",
        "invitation_only": row["invitation_only"],
        "modes": modes,
    }
    for field in ("start", "end", "enrollment_start", "enrollment_end", "modified"):
        description[field] = _as_text(row[field])
    return description


def _modes_by_run(keys: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Course id → its modes; runs without modes are left out."""
    rows = conf.platform().course_mode_model().objects.filter(course_id__in=keys)
    fields = ("mode_slug", "mode_display_name", "min_price", "currency")
    modes_by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows.order_by("pk"):
        mode = {field: getattr(row, field) for field in fields}
        mode["expiration_datetime"] = _as_text(row.expiration_datetime)
        modes_by_run.setdefault(str(row.course_id), []).append(mode)
    return modes_by_run


def _as_text(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
