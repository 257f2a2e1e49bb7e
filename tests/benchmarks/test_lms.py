"""The benchmarks' LMS answers and refuses like the real LMS in the recordings."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from benchmarks.application import serve_lms
from benchmarks.processes import free_port
from benchmarks.services import control, running_services

#: Requests to a real LMS and its answers.
RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
RUN = "course-v1:BenchX+C00000+2026_T1"
WORKER = {"Authorization": "Bearer bench-service-token"}
CLIENT = {"client_id": "bench-oauth-client", "client_secret": "bench-oauth-secret"}
#: The application's redirect URI.
LANDING = "http://app.example/login/_private/complete"


@pytest.fixture(scope="module")
def lms_url():
    # The LMS's application, at port 8013, is not started.
    with running_services() as services:
        port = free_port()
        serve_lms(services, port, 8013, "--delay", 0.05, "--runs", 250)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def browser(lms_url):
    with httpx.Client(base_url=lms_url, trust_env=False) as client:
        yield client


def recorded_response(name):
    return json.loads((RECORDINGS / name).read_text())["response"]


def register(browser, username, email=""):
    form = {"username": username, "email": email or f"{username}@x.example", "name": "N"}
    return browser.post("/user_api/v1/account/registration/", data=form)


def check_shape(answer, name):
    """Checks the answer's status and the names of its body's fields against a recording. Returns
    the recorded body."""
    expected = recorded_response(name)
    assert answer.status_code == expected["status"]
    assert set(answer.json()) == set(expected["body"])
    return expected["body"]


def test_registrations_are_answered_as_in_the_recordings(browser):
    check_shape(register(browser, "one"), "020_register_sso_created.json")
    registration = register(browser, "ONE", "other@x.example")
    recorded_body = check_shape(registration, "022_register_duplicate_username.json")
    assert registration.json()["error_code"] == recorded_body["error_code"]
    duplicate = register(browser, "one")
    assert duplicate.json()["error_code"] == "duplicate-email-username"


def test_an_answer_takes_at_least_the_delay(browser):
    assert browser.get("/api/courses/v1/courses/").elapsed.total_seconds() >= 0.05


def test_sign_in_and_authorization_are_one_redirect_chain(browser):
    register(browser, "two")
    browser.cookies.clear()
    query = f"client_id={CLIENT['client_id']}&response_type=code&redirect_uri={LANDING}"
    next_url = f"/oauth2/authorize?{query}"
    start = browser.get("/auth/login/mitxpro-oauth2/", params={"next": next_url})
    query_parameters = parse_qs(urlsplit(start.headers["location"]).query)
    expected = urlsplit(recorded_response("094_sso_login_start_next.json")["headers"]["Location"])
    assert set(query_parameters) == set(parse_qs(expected.query))
    # Another state than that of the start is refused.
    complete_path = "/auth/complete/mitxpro-oauth2/"
    response = browser.get(complete_path, params={"code": "any", "state": "another"})
    assert response.status_code == 400
    completed = browser.get(
        complete_path, params={"code": "any", "state": query_parameters["state"][0]}
    )
    assert (
        completed.headers["location"]
        == recorded_response("098_sso_linked_user_2.json")["headers"]["Location"]
    )
    continued = browser.get(completed.headers["location"])
    authorized = browser.get(continued.headers["location"])
    # The code and each refresh token are valid once.
    code = parse_qs(urlsplit(authorized.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, **CLIENT}
    tokens = browser.post("/oauth2/access_token", data=form)
    check_shape(tokens, "103_token_code_exchange.json")
    reused_code = browser.post("/oauth2/access_token", data=form)
    assert reused_code.json() == recorded_response("088_token_bad_code.json")["body"]
    renewal = {"grant_type": "refresh_token", "refresh_token": tokens.json()["refresh_token"]}
    assert browser.post("/oauth2/access_token", data=renewal | CLIENT).status_code == 200
    reused_refresh_token = browser.post("/oauth2/access_token", data=renewal | CLIENT)
    assert reused_refresh_token.json() == recorded_response("105_token_refresh_reused.json")["body"]


def test_enrollments_are_answered_as_in_the_recordings(browser):
    register(browser, "three")

    def enroll(**more):
        body = {"user": "three", "course_details": {"course_id": RUN}, **more}
        return browser.post("/api/enrollment/v1/enrollment", json=body, headers=WORKER)

    check_shape(enroll(mode="audit"), "048_enroll_by_service_worker.json")
    enroll(mode="verified")
    mismatch = enroll(mode="audit", is_active=False)
    assert mismatch.status_code == 400
    assert mismatch.json() == recorded_response("064_unenroll.json")["body"]
    assert enroll(is_active=False).json()["is_active"] is False
    unknown = enroll(user="nobody")
    assert unknown.status_code == recorded_response("054_enroll_unknown_user.json")["status"]
    response = browser.get("/api/enrollment/v1/enrollments/?username=three", headers=WORKER)
    recorded_body = check_shape(response, "071_enrollments_admin_by_usernames.json")
    assert set(response.json()["results"][0]) == set(recorded_body["results"][0])


def test_course_pages_have_the_recorded_fields_and_show_changed_runs(lms_url, browser):
    page = browser.get("/api/courses/v1/courses/?page=3&page_size=100").json()
    body = recorded_response("009_courses_page_1.json")["body"]
    assert set(page["results"][0]) == set(body["results"][0])
    assert len(page["results"]) == 50  # of 250 runs
    assert page["pagination"]["num_pages"] == 3
    assert browser.get("/api/courses/v1/courses/?page=4").status_code == 404
    assert control(lms_url, "change-runs", one_in=100, mark="x") == {"changed": 3}
    changed = browser.get("/api/courses/v1/courses/?page=1").json()["results"]
    assert [run["name"].endswith("(x)") for run in changed[:2]] == [True, False]
