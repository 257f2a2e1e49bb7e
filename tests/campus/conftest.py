import pytest
from django.core.cache import cache

from usher.application.runs.models import CourseMode, CourseRun

KEY = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture(autouse=True)
def reset_limits():
    """Resets the rate limits before each test."""
    cache.clear()


@pytest.fixture
def run(db):
    """A course run with the modes audit, which is free, and verified."""
    run = CourseRun.objects.create(course_key=KEY, title="Demonstration Course", org="edX")
    CourseMode.objects.create(run=run, slug="audit", name="Audit")
    CourseMode.objects.create(run=run, slug="verified", name="Verified", min_price=49)
    return run


@pytest.fixture
def learner(django_user_model):
    """A user who has never signed in, and so has no LMS account yet."""
    return django_user_model.objects.create_user(
        "ada", "ada@learners.example", "correct horse battery", name="Ada L"
    )


@pytest.fixture
def browser(client, learner):
    """The learner's browser, signed in. The sign-in has requested the learner's LMS account."""
    client.force_login(learner)
    return client
