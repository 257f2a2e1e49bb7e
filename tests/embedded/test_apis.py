"""Answers that were not recorded from a real LMS agree with the platform's source."""

from typing import Any, NamedTuple

import pytest

from tests.support.embedded import EmbeddedLms

DEMO = "course-v1:edX+DemoX+Demo_Course"
DEMO_PATH = "course-v1%3AedX%2BDemoX%2BDemo_Course"
UNKNOWN_PATH = "course-v1%3ANo%2BSuch%2BRun"
ENROLLMENT = "/api/enrollment/v1/enrollment"
#: The token of the learner ``plainlearner``.
LEARNER = "learner-token"
#: The start state has 300 runs for tests of pages, and three others.
RUNS_IN_START_STATE = 303


class Answer(NamedTuple):
    """An answer of the LMS. body: the parsed JSON; None if the answer is empty."""

    status: int
    body: Any


def get(lms: EmbeddedLms, path: str, token: str = "service-worker-token") -> Answer:
    with lms.api(token) as api:
        answer = api.get(path)
    return Answer(answer.status_code, answer.json() if answer.content else None)


def enroll(lms: EmbeddedLms, token: str = "service-worker-token", **data: Any) -> Answer:
    """Requests an enrollment in the run ``DEMO``. data: further fields of the request."""
    body = {"course_details": {"course_id": DEMO}, **data}
    with lms.api(token) as api:
        answer = api.post(ENROLLMENT, json=body)
    return Answer(answer.status_code, answer.json() if answer.content else None)


def test_the_course_api_refuses_unknown_and_malformed_course_keys(lms: EmbeddedLms) -> None:
    assert get(lms, f"/api/courses/v1/courses/{UNKNOWN_PATH}") == (
        404,
        {"developer_message": "Course not found."},
    )
    assert get(lms, "/api/courses/v1/courses/a+b+c") == (
        400,
        {
            "field_errors": {
                "course_key": {"developer_message": "'a+b+c' is not a valid course key."}
            }
        },
    )
    # The pattern of the URL needs two ``+`` or ``/``, so this is the answer to an unknown address.
    with lms.api() as api:
        assert api.get("/api/courses/v1/courses/not-a-key").status_code == 404


def test_the_course_list_refuses_a_missing_page_and_an_unknown_user(lms: EmbeddedLms) -> None:
    assert get(lms, "/api/courses/v1/courses/?page=1000") == (
        404,
        {"developer_message": "Invalid page."},
    )
    status, body = get(lms, "/api/courses/v1/courses/?username=nobody_here")
    assert (status, body) == (404, {"developer_message": "User matching query does not exist."})
    # An unknown run is no error.
    assert get(lms, f"/api/courses/v1/courses/?course_keys={UNKNOWN_PATH}") == (
        200,
        {"results": [], "pagination": {"next": None, "previous": None, "count": 0, "num_pages": 1}},
    )


def test_pages_of_the_course_list_hold_every_run_once(lms: EmbeddedLms) -> None:
    course_keys: list[str] = []
    path: str | None = "/api/courses/v1/courses/?page_size=100"
    with lms.api() as api:
        while path:
            page = api.get(path).json()
            course_keys += [result["id"] for result in page["results"]]
            path = page["pagination"]["next"]
    assert len(course_keys) == len(set(course_keys)) == RUNS_IN_START_STATE


def test_only_staff_read_modes_and_an_unknown_run_has_no_modes(lms: EmbeddedLms) -> None:
    assert get(lms, f"/api/course_modes/v1/courses/{UNKNOWN_PATH}/") == (200, [])
    denied = {"detail": "You do not have permission to perform this action."}
    assert get(lms, f"/api/course_modes/v1/courses/{DEMO_PATH}/", LEARNER) == (403, denied)
    # A mode that the run does not have.
    assert get(lms, f"/api/course_modes/v1/courses/{DEMO_PATH}/missing") == (
        404,
        {"detail": "Not found."},
    )


def test_a_learner_sees_only_the_public_fields_of_another_account(lms: EmbeddedLms) -> None:
    status, account = get(lms, "/api/user/v1/accounts/edx", LEARNER)
    assert status == 200
    assert set(account) == {"account_privacy", "profile_image", "username"}
    # Nor can the learner find accounts by e-mail address, or see enrollments of others.
    assert get(lms, "/api/user/v1/accounts?email=edx@example.org", LEARNER).status == 403
    assert get(lms, f"{ENROLLMENT}/edx,{DEMO}", LEARNER) == (404, None)
    # Even staff get 404 for an account that does not exist.
    assert get(lms, "/api/user/v1/accounts/nobody_here") == (404, None)


@pytest.mark.parametrize(
    ("patch", "field", "text"),
    [
        ({"username": "other"}, "username", "This field is not editable via this API"),
        ({"name": "A <b>"}, "name", "Error thrown from validate_name: 'Full Name cannot contain "),
        ({"country": "ZZ"}, "country", "Value 'ZZ' is not valid for field 'country': "),
        ({"email": "nope"}, "email", "Error thrown from validate_new_email: 'Valid e-mail"),
    ],
)
def test_invalid_changes_of_an_account_are_refused(
    lms: EmbeddedLms, patch: dict[str, str], field: str, text: str
) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    with lms.api(LEARNER) as api:
        answer = api.request(
            "PATCH", "/api/user/v1/accounts/plainlearner", json=patch, headers=headers
        )
    assert answer.status_code == 400
    assert answer.json()["field_errors"][field]["developer_message"].startswith(text)


def test_an_enrollment_request_with_a_missing_forbidden_or_invalid_value_is_refused(
    lms: EmbeddedLms,
) -> None:
    message = {"message": "Course ID must be specified to create a new enrollment."}
    assert enroll(lms, user="plainlearner", course_details={}) == (400, message)
    assert enroll(lms, token=LEARNER, user="edx") == (404, None)
    denied = "User does not have permission to create enrollment with mode [verified]."
    assert enroll(lms, token=LEARNER, mode="verified") == (403, {"message": denied})
    status, body = enroll(lms, email="nobody@learners.example")
    assert (status, body["message"]) == (
        406,
        "The user with the email address nobody@learners.example does not exist.",
    )
    invalid = {"message": "'yes' is an invalid enrollment activation status."}
    assert enroll(lms, user="plainlearner", is_active="yes") == (400, invalid)


def test_enrolling_in_a_mode_that_the_run_does_not_offer_is_refused(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    status, body = enroll(lms, user=name, mode="masters")
    assert status == 400
    assert body["message"] == (
        f"The [masters] course mode is expired or otherwise unavailable for course run [{DEMO}]."
    )
    assert [mode["slug"] for mode in body["course_details"]["course_modes"]] == [
        "audit",
        "verified",
    ]


def test_a_request_without_a_user_enrolls_the_requester_in_the_default_mode(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        token = browser.cookies["csrftoken"]
        answer = browser.post(
            ENROLLMENT,
            json={"course_details": {"course_id": DEMO}},
            headers={"X-CSRFToken": token, "Referer": lms.url},
        )
    assert answer.status_code == 200, answer.text
    assert {key: answer.json()[key] for key in ("mode", "is_active", "user")} == {
        "mode": "audit",
        "is_active": True,
        "user": name,
    }


def test_a_missing_enrollment_is_an_empty_answer_and_a_missing_run_an_error(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    with lms.api() as api:
        answer = api.get(f"{ENROLLMENT}/{name},{DEMO}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert get(lms, f"/api/enrollment/v1/course/{UNKNOWN_PATH}") == (
        400,
        {"message": "No course found for course ID 'course-v1:No+Such+Run'"},
    )


def test_the_list_of_all_enrollments_has_pages_and_starts_with_the_newest(
    lms: EmbeddedLms, name: str
) -> None:
    names = [f"{name}{letter}" for letter in "abc"]
    for username in names:
        lms.register(username)
        enroll(lms, user=username)
    path: str | None = f"/api/enrollment/v1/enrollments/?username={','.join(names)}&page_size=2"
    usernames: list[str] = []
    while path:
        _, page = get(lms, path)
        usernames += [result["user"] for result in page["results"]]
        path = page["next"]
    assert usernames == names[::-1]
    assert get(lms, "/api/enrollment/v1/enrollments/?course_id=nonsense") == (
        400,
        {
            "field_errors": {
                "course_id": {"developer_message": "'nonsense' is not a valid course id."}
            }
        },
    )


def test_bulk_enrollment_enrolls_accounts_and_invites_unknown_addresses(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    guest = f"{name}@guests.example"
    # An account's username, an address without an account, and a word that is neither.
    body = {
        "action": "enroll",
        "courses": DEMO,
        "identifiers": f"{name}, {guest}\nnot-a-person",
        "auto_enroll": True,
    }
    with lms.api() as api:
        answer = api.post("/api/bulk_enroll/v1/bulk_enroll", json=body).json()
    unknown = {"user": False, "enrollment": False, "allowed": False, "auto_enroll": False}
    assert answer["courses"][DEMO]["results"] == [
        {
            "identifier": name,
            "before": {**unknown, "user": True},
            "after": {**unknown, "user": True, "enrollment": True},
        },
        {
            "identifier": guest,
            "before": unknown,
            "after": {**unknown, "allowed": True, "auto_enroll": True},
        },
        {"identifier": "not-a-person", "invalidIdentifier": True},
    ]


def test_the_grades_api_returns_stored_grades_and_says_why_it_refuses(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    path = f"/api/grades/v1/courses/{DEMO_PATH}/?username="
    assert get(lms, f"{path}nobody_here").body["error_code"] == "user_does_not_exist"
    assert get(lms, f"{path}{name}").body["error_code"] == "user_not_enrolled"
    assert get(lms, f"/api/grades/v1/courses/{UNKNOWN_PATH}/") == (
        404,
        {
            "developer_message": "Requested grade for unknown course course-v1:No+Such+Run",
            "error_code": "course_does_not_exist",
        },
    )
    enroll(lms, user=name)
    lms.shell(
        f"""
from django.contrib.auth.models import User
from django.utils import timezone
from opaque_keys.edx.keys import CourseKey
from usher.embedded.grades.models import PersistentCourseGrade
PersistentCourseGrade.objects.create(
    user_id=User.objects.get(username={name!r}).id, course_id=CourseKey.from_string({DEMO!r}),
    percent_grade=0.8, letter_grade="B", passed_timestamp=timezone.now())
"""
    )
    graded = {"passed": True, "percent": 0.8, "letter_grade": "B"}
    assert get(lms, f"{path}{name}").body == [
        {"username": name, "email": "", "course_id": DEMO, **graded}
    ]
    # The page of all learners' grades has the same grade.
    _, all_grades = get(lms, f"/api/grades/v1/courses/{DEMO_PATH}/?page_size=1000")
    assert {result["username"]: result["passed"] for result in all_grades["results"]}[name] is True


def test_certificates_are_for_owners_and_staff(lms: EmbeddedLms) -> None:
    denied = {"detail": "You do not have permission to perform this action."}
    assert get(lms, "/api/certificates/v0/certificates/edx/", LEARNER) == (403, denied)
    assert get(lms, "/api/certificates/v0/certificates/plainlearner/", LEARNER) == (200, [])
    # For staff, an unknown learner is no error.
    assert get(lms, "/api/certificates/v0/certificates/nobody_here/") == (200, [])


def test_each_user_has_a_separate_rate_limit_that_a_setting_defines(
    strict_lms: EmbeddedLms,
) -> None:
    path = "/api/courses/v1/courses/?page_size=1"
    # In this LMS, staff may send two requests a minute, and other users one.
    assert [get(strict_lms, path).status for _ in range(3)] == [200, 200, 429]
    assert [get(strict_lms, path, LEARNER).status for _ in range(2)] == [200, 429]
    status, body = get(strict_lms, path)
    assert status == 429
    assert body["developer_message"].startswith("Request was throttled. Expected available in ")


def test_my_user_info_of_the_mobile_api_redirects_to_the_requester(lms: EmbeddedLms) -> None:
    """MITx Online and MIT xPro request this page before each enrollment, with ``user_info`` of
    edx-api-client."""
    with lms.api(LEARNER) as api:
        answer = api.get("/api/mobile/v0.5/my_user_info")
        assert answer.status_code == 302
        me = api.get(answer.headers["location"])
    username = get(lms, "/api/user/v1/me", LEARNER).body["username"]
    assert me.status_code == 200
    assert set(me.json()) == {"id", "username", "email", "name", "course_enrollments"}
    assert me.json()["username"] == username
    assert get(lms, f"/api/mobile/v0.5/users/{username}").status == 404  # another learner's
    assert get(lms, "/api/mobile/v0.5/my_user_info", "no-such-token").status == 401


def test_a_learner_subscribes_to_course_emails_and_unsubscribes(lms: EmbeddedLms) -> None:
    with lms.api(LEARNER) as api:
        # Repeating a request is no error.
        for subscribed in (False, False, True, True):
            body = {"course_id": DEMO, "receive_emails": subscribed}
            answer = api.post("/api/change_email_settings", json=body)
            assert (answer.status_code, answer.json()) == (200, {"success": True})
    with lms.api("no-such-token") as api:
        assert api.post("/api/change_email_settings", json={}).status_code == 401
