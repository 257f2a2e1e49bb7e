"""Links of learners' accounts moved from one sign-in backend's name to another's."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Exists, OuterRef
from social_django.models import UserSocialAuth


@dataclass(frozen=True)
class Moved:
    """moved: links that have the new name now. kept: those whose learner, or uid, has one of the
    new name already."""

    moved: int
    kept: int


def move_links(old: str, new: str, *, dry_run: bool = False) -> Moved:
    """Every link of ``old`` becomes one of ``new``; moving back undoes it. Links that would meet
    another one are left as they are."""
    links = UserSocialAuth.objects.filter(provider=old)
    there = UserSocialAuth.objects.filter(provider=new)
    taken = Exists(there.filter(uid=OuterRef("uid"))) | Exists(there.filter(user=OuterRef("user")))
    with transaction.atomic():
        total = links.count()
        free = list(links.exclude(taken).values_list("pk", flat=True))
        if not dry_run:
            UserSocialAuth.objects.filter(pk__in=free).update(provider=new)
    return Moved(len(free), total - len(free))
