"""Which work comes first: lanes of the queue.

What a person does (a sign-up, a purchase) is interactive: somebody waits for it in a browser.
It is claimed before all other work. Code that makes work for many people, such as an import,
says so::

    with background():
        for user in users:
            want_something_for(user)
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
    """The lane of work that this code makes."""
    return _current.get()


@contextmanager
def background() -> Iterator[None]:
    """What is made due within it waits until nothing interactive is due."""
    token = _current.set(Lane.BACKGROUND)
    try:
        yield
    finally:
        _current.reset(token)


def by_lane(rows: Iterable[Any]) -> dict[Lane, list[int]]:
    """Users' ids of these rows, by the lane of the row: what follows from a row inherits it."""
    found: dict[Lane, list[int]] = {}
    for row in rows:
        found.setdefault(Lane(row.lane), []).append(row.user_id)
    return found
