"""Selects the course runs that a user may see."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone
from opaque_keys.edx.keys import CourseKey
from rest_framework.exceptions import PermissionDenied

from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.services import has_staff_access


def effective_user(requester: Any, username: str) -> Any:
    """The user on whose behalf the request is made; AnonymousUser for ''. Raises PermissionDenied
    if a requester who isn't staff names another user, and User.DoesNotExist if there is no such
    user."""
    if username == requester.username:
        return requester
    if not username:
        return AnonymousUser()
    if not requester.is_staff:
        raise PermissionDenied
    return User.objects.get(username=username)


def _open_to_anybody() -> Q:
    """The condition for runs that have started and aren't for staff only, and for all runs that are
    open for enrollment."""
    now = timezone.now()
    started = Q(start__isnull=True) | Q(start__lte=now)
    enrollable = (
        Q(invitation_only=False)
        & (Q(enrollment_start__isnull=True) | Q(enrollment_start__lt=now))
        & (Q(enrollment_end__isnull=True) | Q(enrollment_end__gt=now))
    )
    return Q(visible_to_staff_only=False) & started | enrollable


def visible_runs(
    requester: Any,
    username: str,
    org: str = "",
    mobile: bool | None = None,
    active_only: bool | None = None,
    course_keys: list[str] | None = None,
) -> "QuerySet[CourseOverview]":
    """Runs that ``username`` ('': an anonymous visitor) may see, oldest first. org, mobile,
    course_keys: only runs of this organization, runs that are or are not for mobile devices, or
    runs with these keys; '' or None for all. active_only: leave out runs that have ended."""
    user = effective_user(requester, username)
    runs = CourseOverview.get_all_courses(
        orgs=[org] if org else None,
        filter_={} if mobile is None else {"mobile_available": mobile},
        active_only=bool(active_only),
        course_keys=course_keys,
    )
    return runs if user.is_staff else runs.filter(_open_to_anybody())


def visible_run(requester: Any, username: str, key: CourseKey) -> CourseOverview:
    """The run. Raises Http404 if the run does not exist or this user may not see the run."""
    user = effective_user(requester, username)
    run = CourseOverview.objects.filter(id=key).first()
    if run is None:
        raise Http404("Course not found.")
    staff = user.is_authenticated and has_staff_access(user, key)
    if not staff and run.catalog_visibility not in {"both", "about"}:
        raise Http404("Course not found.")
    return run
