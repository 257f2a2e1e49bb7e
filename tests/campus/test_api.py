"""``/api/v1/``, which an integrator's own pages call."""

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings

from campus.wsgi import application
from tests.campus.conftest import KEY
from usher.application.enrollments.models import Enrollment

pytestmark = pytest.mark.django_db

ENROLLMENTS = "/api/v1/enrollments/"


def enroll(browser, **data):
    return browser.post(ENROLLMENTS, {"course_key": KEY} | data, content_type="application/json")


def test_me_returns_the_learner_s_user_and_account(browser, learner):
    assert browser.get("/api/v1/me/").json() == {
        "id": learner.pk,
        "username": "ada",
        "email": "ada@learners.example",
        "name": "Ada L",
        "lms_username": "ada",
        "lms_account_is_ready": False,
    }


@pytest.mark.parametrize("path", ["/api/v1/me/", ENROLLMENTS, f"{ENROLLMENTS}{KEY}/"])
def test_visitors_get_403_for_data_of_learners(client, run, path):
    assert client.get(path).status_code == 403


def test_runs_are_public(client, run):
    (item,) = client.get("/api/v1/course-runs/").json()["results"]
    assert item["course_key"] == KEY
    assert item["is_enrollable"] is True
    assert [mode["slug"] for mode in item["modes"]] == ["audit", "verified"]
    assert client.get(f"/api/v1/course-runs/{KEY}/").json() == item


def test_a_learner_enrolls_lists_the_enrollment_and_unenrolls(browser, run, learner):
    answer = enroll(browser)
    assert answer.status_code == 201
    assert answer.json()["state"] == "pending"
    assert "/auth/login/" in answer.json()["url"]
    assert len(browser.get(ENROLLMENTS).json()["results"]) == 1
    assert browser.delete(f"{ENROLLMENTS}{KEY}/").status_code == 204
    assert browser.get(f"{ENROLLMENTS}{KEY}/").status_code == 404
    assert Enrollment.objects.get().is_active is False


def test_an_enrollment_in_a_paid_or_unknown_mode_is_refused(browser, run):
    assert enroll(browser, mode="verified").status_code == 409
    assert enroll(browser, mode="invented").status_code == 409
    assert not Enrollment.objects.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{}", 400),
        ("[]", 400),
        ("rubbish", 400),
        ('{"course_key": "nothing"}', 404),
        ('{"course_key": "\\u0000"}', 400),
        ('{"course_key": {"a": 1}}', 400),
        ('{"course_key": "' + "x" * 300 + '"}', 400),
    ],
)
def test_malformed_input_is_answered_with_400_or_404(browser, run, body, status):
    answer = browser.post(ENROLLMENTS, body, content_type="application/json")
    assert answer.status_code == status


def test_changes_require_the_csrf_token(learner, run):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(learner)
    assert enroll(strict).status_code == 403


def test_enrollments_of_other_learners_are_not_found(browser, run, django_user_model):
    other = Client()
    other.force_login(django_user_model.objects.create_user("eve", "eve@learners.example"))
    enroll(other)
    assert browser.get(f"{ENROLLMENTS}{KEY}/").status_code == 404
    assert browser.get(ENROLLMENTS).json()["results"] == []


#: The last four are well-formed: the base64 of ``p=1``, ``p=x``, ``p=%00`` and ``o=abc``.
INVALID_CURSORS = ["x", "%00", "ZZZZ", "cD0x", "cD14", "cD0lMDA%3D", "bz1hYmM="]


@pytest.mark.parametrize("cursor", INVALID_CURSORS)
def test_an_invalid_cursor_is_answered_without_a_5xx(client, run, cursor):
    assert client.get(f"/api/v1/course-runs/?cursor={cursor}").status_code in {200, 404}


@pytest.mark.parametrize("key", ["%00", "%0a", "nothing", "x" * 400, "a/b/c", "%ff"])
@pytest.mark.parametrize("path", ["course-runs", "enrollments"])
def test_an_unknown_or_malformed_course_key_is_404(browser, run, path, key):
    assert browser.get(f"/api/v1/{path}/{key}/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_generated_requests_are_answered_without_a_5xx(browser, run):
    """The requests are generated from the API's schema, and sent as a signed-in user."""
    browser.get("/")  # sets the CSRF token that changes need
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
    schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", application)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 7, "the schema lists the API's operations"
    for operation in operations:
        _fuzz(operation, cookies)


def _fuzz(operation, cookies):
    """Sends generated requests to an operation of the API; no answer may have a status of 5xx."""

    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case):
        token = {"X-CSRFToken": cookies["mitxonline_csrf"]}
        answer = case.call(cookies=cookies, headers=token)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text[:500])
        assert "CSRF" not in answer.text, "the token is valid, so requests reach the API"

    check()


def test_a_learner_is_enrolled_as_honor_in_a_run_that_offers_only_honor(browser, run):
    run.modes.all().delete()
    run.modes.create(slug="honor")
    assert enroll(browser).json()["mode"] == "honor"


def test_an_enrollment_without_a_mode_is_refused_if_the_run_has_no_free_mode(browser, run):
    run.modes.filter(slug="audit").delete()
    assert enroll(browser).status_code == 409
    assert not Enrollment.objects.exists()
