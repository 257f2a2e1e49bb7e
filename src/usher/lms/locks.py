"""Prevents database deadlocks between concurrent enrollments."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import m2m_changed

from usher.lms import conf


def avoid_forum_role_deadlocks() -> None:
    """Make Django add only forum roles that are missing, by connecting a receiver.

    At each save of an enrollment the platform adds the learner's forum role, even if the learner
    has it already. Django adds the role with INSERT IGNORE, which takes a gap lock in the unique
    index when the row exists, so that two batches can deadlock. When ``m2m_changed`` has a
    receiver, Django reads the existing rows first.
    """
    links = conf.platform().forum_role_links()
    if links is not None:
        m2m_changed.connect(no_operation, sender=links, dispatch_uid="usher.lms.locks")


def no_operation(sender: Any, **kwargs: Any) -> None:
    """Does nothing. Only the connection of this receiver matters: see
    ``avoid_forum_role_deadlocks``."""
