"""Moves learners' links from one sign-in backend to another."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef
from social_django.models import UserSocialAuth

from usher.lms.transactions import run_for_command


@dataclass(frozen=True)
class MoveResult:
    """moved: number of links that have the new backend. kept: number of links left alone, because
    their user or uid already has a link with the new backend."""

    moved: int
    kept: int


def move_links(old: str, new: str, *, dry_run: bool = False) -> MoveResult:
    """Change the backend of every link from ``old`` to ``new``, except links that would conflict
    with an existing one. With the names swapped, it also moves links that had ``new`` before.
    dry_run: only count. Raises DatabaseBusy."""
    links = UserSocialAuth.objects.filter(provider=old)
    links_with_new = UserSocialAuth.objects.filter(provider=new)
    has_conflict = Exists(links_with_new.filter(uid=OuterRef("uid"))) | Exists(
        links_with_new.filter(user=OuterRef("user"))
    )

    def move() -> MoveResult:
        total = links.count()
        free = list(links.exclude(has_conflict).values_list("pk", flat=True))
        moved = len(free) if dry_run else links.filter(pk__in=free).update(provider=new)
        return MoveResult(moved, total - moved)

    # Repeated if a link was created since the conflicts were looked up.
    return run_for_command(move)
