"""Errors are announced to screen readers too, in the same words on all pages."""

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from usher.application.enrollments.services import enroll
from usher.application.models import Enrollment
from usher.application.runs.services import ensure_run

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
KEY = "course-v1:edX+DemoX+Demo_Course"


def test_the_error_about_a_wrong_password_is_announced_to_screen_readers(client):
    page = client.post("/accounts/login/", {"login": "nobody", "password": "wrong"})
    text = page.content.decode()
    assert 'role="alert"' in text
    assert text.count('aria-invalid="true"') == 2  # the fields for username and password
    assert 'aria-invalid="true"' not in client.get("/accounts/login/").content.decode()


@pytest.mark.parametrize("is_enrolled_in_lms", [True, False])
def test_all_pages_and_the_api_describe_a_refused_change_in_the_same_words(
    client, settings, is_enrolled_in_lms
):
    settings.SUPPORT_EMAIL = "help@example.org"
    user, run = make_learner(), ensure_run(KEY)
    enroll(user, run)
    Enrollment.objects.update(
        observed_is_active=is_enrolled_in_lms, observed_mode="honor" if is_enrolled_in_lms else ""
    )
    Enrollment.objects.set_work(refused_at=timezone.now(), error_code="mode-kept")
    client.force_login(user)
    dashboard = client.get("/dashboard/").content.decode()
    course = client.get(f"/courses/{KEY}/").content.decode()
    assert ("could not be opened" in course) == (not is_enrolled_in_lms)
    (item,) = client.get("/api/v1/enrollments/").json()["results"]
    assert item["label"] == ("Enrolled" if is_enrolled_in_lms else "Needs our help")
    for page in (dashboard, course, client.get("/").content.decode()):
        assert f">{item['label']}<" in page
    assert item["message"] in dashboard
    assert item["message"] in course
    assert (">Honor<" in dashboard) is is_enrolled_in_lms, "the mode in the LMS is honor"
    assert ("help@example.org" in course) == (not is_enrolled_in_lms)
    # Staff get a mail only if MANAGERS is set, so no page may say that staff were told.
    assert "We were told" not in dashboard + course
