"""Lanes of the queue: which work is claimed first.

Work that an action of a person causes, such as a sign-up or a purchase, is interactive: the person
waits for the result in a browser. Interactive work is claimed before all other work. Code that
makes work for many learners, such as an import, should use the background lane::

    with background():
        for user in users:
            enroll(user, run)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import models


class Lane(models.IntegerChoices):
    """A smaller number is claimed first."""

    INTERACTIVE = 0
    BACKGROUND = 1
    RECHECK = 2, "full check"


_current: ContextVar[Lane] = ContextVar("usher_lane", default=Lane.INTERACTIVE)


def current_lane() -> Lane:
    """The lane that new work gets now, in this thread or task: interactive by default."""
    return _current.get()


@contextmanager
def background() -> Iterator[None]:
    """Rows that are made due within the block are claimed only when nothing interactive is due."""
    token = _current.set(Lane.BACKGROUND)
    try:
        yield
    finally:
        _current.reset(token)


def user_ids_by_lane(rows: Iterable[Any]) -> dict[Lane, list[int]]:
    """Lane → the user ids of the rows in that lane. Work that follows from a row gets the row's
    lane."""
    ids_by_lane: dict[Lane, list[int]] = {}
    for row in rows:
        ids_by_lane.setdefault(Lane(row.lane), []).append(row.user_id)
    return ids_by_lane
