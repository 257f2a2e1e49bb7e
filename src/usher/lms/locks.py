"""Locks that enrollments at the same time hold against each other."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import m2m_changed

from usher.lms import conf


def ask_before_adding_forum_roles() -> None:
    """At each save of an enrollment the platform gives the learner the forum role that they have
    already. Django does so with INSERT IGNORE, whose second try takes a gap lock in the unique
    index: two batches end in a deadlock. Where a receiver listens, Django asks first and adds
    what is missing only."""
    links = conf.platform().forum_role_links()
    if links is not None:
        m2m_changed.connect(nothing, sender=links, dispatch_uid="usher.lms.locks")


def nothing(sender: Any, **kwargs: Any) -> None:
    """Its being there is what counts."""
