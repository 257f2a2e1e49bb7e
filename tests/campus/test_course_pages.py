"""Catalog, course run, dashboard."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from tests.campus.conftest import KEY
from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

RUN_PATH = f"/courses/{KEY}/"


def test_the_catalog_shows_only_runs_that_are_live_and_not_missing(client, run):
    CourseRun.objects.create(course_key="course-v1:a+hidden+1", title="Not offered", live=False)
    CourseRun.objects.create(
        course_key="course-v1:a+gone+1", title="Gone", missing_since=timezone.now()
    )
    page = client.get("/").content.decode()
    assert "Demonstration Course" in page
    assert "Not offered" not in page
    assert "Gone" not in page


def test_an_empty_catalog_names_the_command_that_adds_runs(client):
    assert "sync_courserun" in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("words", "number_of_runs"), [("demo", 1), ("DEMOX edx", 1), ("physics", 0)]
)
def test_a_search_finds_runs_that_contain_all_its_words(client, run, words, number_of_runs):
    page = client.get("/", {"q": words}).content.decode()
    assert page.count('class="card"') == number_of_runs


@pytest.mark.parametrize("words", ["%", "'", "<script>alert(1)</script>", "\x00", "x" * 5000])
def test_a_search_for_any_text_is_answered_and_escaped(client, run, words):
    answer = client.get("/", {"q": words})
    assert answer.status_code == 200
    assert b"<script>alert" not in answer.content


@pytest.mark.parametrize("page", ["0", "-1", "x", "99999999999999999999"])
def test_page_numbers_that_are_out_of_range_or_invalid_show_a_page(client, run, page):
    assert client.get("/", {"page": page}).status_code == 200


def test_a_page_of_many_runs_takes_at_most_three_queries(client, db, django_assert_max_num_queries):
    CourseRun.objects.bulk_create(
        CourseRun(course_key=f"course-v1:X+C{n}+1", title=f"Course {n}") for n in range(60)
    )
    # A full page has 24 runs.
    with django_assert_max_num_queries(3):
        assert client.get("/?page=2").content.decode().count('class="card"') == 24


def test_a_visitor_is_asked_to_sign_up_and_redirected_to_sign_in(client, run):
    page = client.get(RUN_PATH).content.decode()
    assert "Sign up to enroll" in page
    assert client.post(RUN_PATH + "enroll/").url.startswith("/accounts/login/?next=")


def test_a_learner_enrolls_and_unenrolls_on_the_page_of_a_run(browser, run, learner):
    assert "Enroll for free" in browser.get(RUN_PATH).content.decode()
    assert browser.post(RUN_PATH + "enroll/", follow=True).redirect_chain[-1][0] == RUN_PATH
    row = Enrollment.objects.get(user=learner, run=run)
    assert (row.is_active, row.mode) == (True, "audit")
    assert "Open the course" in browser.get(RUN_PATH).content.decode()
    browser.post(RUN_PATH + "unenroll/")
    row.refresh_from_db()
    assert row.is_active is False
    assert "Enroll for free" in browser.get(RUN_PATH).content.decode()
    assert browser.post(RUN_PATH + "unenroll/").status_code == 302, "unenrolling twice is no error"


def test_a_get_request_enrolls_nobody(browser, run):
    assert browser.get(RUN_PATH + "enroll/").status_code == 405
    assert not Enrollment.objects.exists()


def test_nobody_can_enroll_after_the_end_of_enrollment(browser, run):
    run.enrollment_end = timezone.now() - timedelta(days=1)
    run.save()
    assert "Enrollment is not open" in browser.get(RUN_PATH).content.decode()
    browser.post(RUN_PATH + "enroll/")
    assert not Enrollment.objects.exists()


def test_a_percent_encoded_course_key_is_accepted(client, run):
    assert client.get("/courses/course-v1%3AedX%2BDemoX%2BDemo_Course/").status_code == 200


@pytest.mark.parametrize("key", ["nothing", "a/b/c", "%00", "../etc", "course-v1:a+b+c", "x" * 900])
def test_unknown_runs_are_404(client, run, key):
    assert client.get(f"/courses/{key}/").status_code == 404


def test_the_dashboard_links_to_runs_through_sign_in_at_the_lms(browser, run, learner, settings):
    settings.OPENEDX_API_BASE_URL = "http://172.17.0.1:8000"
    settings.OPENEDX_BASE_REDIRECT_URL = "http://lms.example:8000"
    browser.post(RUN_PATH + "enroll/")
    page = browser.get("/dashboard/").content.decode()
    assert "172.17.0.1" not in page
    link = unescape(re.search(r'<a class="button" href="(http://lms\.example[^"]*)"', page)[1])
    parts = urlsplit(link)
    assert parts.netloc == "lms.example:8000"
    assert parts.path.startswith("/auth/login/")
    assert parse_qs(parts.query)["next"] == [f"/courses/{KEY}/course/"]
    assert parse_qs(parts.query)["auth_entry"] == ["login"]


def test_the_dashboard_shows_the_state_of_each_enrollment(browser, run, learner):
    browser.post(RUN_PATH + "enroll/")
    assert "account is being created" in browser.get("/dashboard/").content.decode()
    LmsAccount.objects.update(created_in_lms_at=timezone.now())
    Enrollment.objects.update(observed_is_active=True, observed_mode="audit")
    page = browser.get("/dashboard/").content.decode()
    assert "being created" not in page
    assert ">Enrolled<" in page
    LmsAccount.objects.update(created_in_lms_at=None)
    LmsAccount.objects.set_work(refused_at=timezone.now(), error_code="duplicate-email")
    assert "e-mail address already exists" in browser.get("/dashboard/").content.decode()


@pytest.mark.parametrize("cause", ["refused", "run is missing"])
def test_a_course_has_no_open_button_if_the_enrollment_is_refused_or_the_run_is_missing(
    browser, run, learner, cause
):
    browser.post(RUN_PATH + "enroll/")
    LmsAccount.objects.update(created_in_lms_at=timezone.now())
    if cause == "refused":
        Enrollment.objects.set_work(refused_at=timezone.now(), error_code="course-full")
    else:
        Enrollment.objects.update(observed_is_active=True)
        type(run).objects.update(missing_since=timezone.now())
    assert "Our staff can see this" in browser.get(RUN_PATH).content.decode()
    for page in (RUN_PATH, "/dashboard/", "/"):
        text = browser.get(page).content.decode()
        assert ">Enrolled<" not in text
        assert ">Open" not in text


def test_the_dashboard_redirects_a_visitor_to_sign_in(client):
    assert client.get("/dashboard/").url == "/accounts/login/?next=/dashboard/"


def test_the_health_addresses_answer_200(client, db):
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_the_page_of_a_run_without_a_free_mode_enrolls_nobody_and_says_why(browser, run):
    run.modes.filter(slug="audit").delete()
    assert "This course is not free." in browser.get(RUN_PATH).content.decode()
    answer = browser.post(RUN_PATH + "enroll/", follow=True)
    assert "all its modes are paid" in answer.content.decode()
    assert "You are enrolled" not in answer.content.decode()
    assert not Enrollment.objects.exists()
