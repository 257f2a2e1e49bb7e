"""A malformed course key is refused when the run is created, before any request to the LMS."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from usher.application.models import CourseRun
from usher.application.runs.models import validate_course_key

VALID_KEY = "course-v1:edX+DemoX+Demo_Course"


def bulk_create(key: str) -> Any:
    """Creates two runs. Neither may be stored if the second one's key is malformed."""
    return CourseRun.objects.bulk_create(
        [CourseRun(course_key=VALID_KEY), CourseRun(course_key=key)]
    )


@pytest.mark.parametrize(
    "key",
    [
        VALID_KEY,
        "edX/DemoX/2014",
        "ccx-v1:edX+DemoX+1+ccx@7",
        "course-v1:Universität+Größe+2026",
    ],
)
def test_the_keys_of_all_sorts_of_runs_are_valid(key: str) -> None:
    validate_course_key(key)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "key",
    [
        "",
        "DemoX",
        "course-v1:edX+DemoX",
        "course-v1:edX+..+1",
        "x" * 300,
        "library-v1:edX+DemoX",
        "course-v1:edX+DemoX+1+type@html+block@a",
        "course-v1:edX+DemoX+1+branch@draft-branch",
        "course-v1:edX+DemoX+1+version@519665f6223ebd6980884f2b",
        "ccx-v1:edX+DemoX+1+ccx@7+type@html+block@a",
    ],
)
@pytest.mark.parametrize(
    "create",
    [
        lambda key: CourseRun.objects.create(course_key=key),
        lambda key: CourseRun(course_key=key).save(),
        lambda key: CourseRun.objects.get_or_create(course_key=key),
        lambda key: CourseRun.objects.update_or_create(course_key=key),
        bulk_create,
    ],
    ids=["create", "save", "get_or_create", "update_or_create", "bulk_create"],
)
def test_every_way_to_create_a_run_rejects_a_malformed_key(
    create: Callable[[str], Any], key: str
) -> None:
    with pytest.raises(ValidationError, match="is not a course key; it looks like course-v1:ORG"):
        create(key)
    assert not CourseRun.objects.exists()


@pytest.mark.django_db
def test_a_stored_run_with_a_malformed_key_can_be_saved() -> None:
    run = CourseRun.objects.create(course_key=VALID_KEY)
    CourseRun.objects.update(course_key="DemoX")
    run.refresh_from_db()
    run.title = "Old"
    run.save()
    assert CourseRun.objects.get().title == "Old"
