"""Creates course runs, new ones and copies of existing ones, without content."""

from typing import Any

from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_overviews.models import DEFAULT_START_DATE, CourseOverview
from usher.embedded.student.models import CourseAccessRole

#: Columns that a copy does not get from its source.
_NOT_COPIED = frozenset(
    {
        "id",
        "_location",
        "org",
        "display_org_with_default",
        "display_number_with_default",
        "created",
        "modified",
        "advertised_start",
        "enrollment_start",
        "enrollment_end",
    }
)


class DuplicateCourseError(Exception):
    """The LMS already has this run; Studio answers 500."""


def course_run_key(org: str, number: str, run: str) -> CourseKey:
    return CourseKey.from_string(f"course-v1:{org}+{number}+{run}")


def create(user: User, key: CourseKey, values: dict[str, Any]) -> CourseOverview:
    """Create a run with its author as instructor. Raises DuplicateCourseError."""
    if CourseOverview.objects.filter(id__iexact=str(key)).exists():
        raise DuplicateCourseError(str(key))
    run = CourseOverview(id=key, **{"start": DEFAULT_START_DATE, **values})
    run.save(force_insert=True)
    for role in ("instructor", "staff"):
        add_to_team(run, user, role)
    return run


def rerun(user: User, source: CourseOverview, key: CourseKey) -> CourseOverview:
    """Create a copy. As on the platform, modes and enrollment dates are not copied. Raises
    DuplicateCourseError."""
    columns = [field.attname for field in CourseOverview._meta.concrete_fields]
    values = {name: getattr(source, name) for name in columns if name not in _NOT_COPIED}
    return create(user, key, values)


def set_team(run: CourseOverview, team: list[dict[str, Any]], *, replace: bool) -> None:
    """Add the members of ``team``, each with ``user`` and ``role``. replace: remove all former
    members first."""
    if replace:
        CourseAccessRole.objects.filter(course_id=run.id).delete()
    for member in team:
        add_to_team(run, member["user"], member["role"])


def add_to_team(run: CourseOverview, user: Any, role: str) -> None:
    """Give ``user``, an account or its username, a role in the run."""
    member = user if isinstance(user, User) else User.objects.get(username=user)
    CourseAccessRole.objects.get_or_create(course_id=run.id, org=run.id.org, user=member, role=role)
