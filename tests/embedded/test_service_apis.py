"""Requests of MITx Online's service clients: course runs of Studio, retirement, MIT's plugins.

Source: the code of the platform (``cms/djangoapps/api/v1``,
``lms/djangoapps/bulk_user_retirement``) and of the plugins ``ol-openedx-lti-utilities`` and
``ol-openedx-course-outline-api``.
"""

from typing import Any

import httpx
import pytest

from tests.support.embedded import EmbeddedLms
from usher.doctor.conformance.learners import register, remove

RUNS = "/api/v1/course_runs/"
DEMO = "course-v1:edX+DemoX+Demo_Course"
RETIRE = "/v1/accounts/bulk_retire_users"
LTI_FIX = "/api/lti-user-fix/"
OUTLINE = "/api/ol-course-outline/v0"


def jwt_client(lms: EmbeddedLms, client: str = "svc-client") -> httpx.Client:
    """A client that authenticates as edx-api-client does: with a JWT from the client credentials
    grant."""
    data = {
        "grant_type": "client_credentials",
        "client_id": f"{client}-id",
        "client_secret": f"{client}-secret",
        "token_type": "jwt",
    }
    with lms.browser() as browser:
        answer = browser.post("/oauth2/access_token", data=data).json()
    assert answer["token_type"] == "JWT"
    headers = {"Authorization": f"jwt {answer['access_token']}"}
    return httpx.Client(base_url=lms.url, headers=headers, timeout=120, trust_env=False)


def test_studio_clones_a_run_and_changes_title_and_dates_of_the_copy(
    lms: EmbeddedLms, name: str
) -> None:
    copy = f"course-v1:Other+{name}+2026"
    with jwt_client(lms) as studio:
        source = studio.get(f"{RUNS}{DEMO}/").json()
        assert studio.get(f"{RUNS}{copy}/").status_code == 404
        body = {"source_course_id": DEMO, "destination_course_id": copy}
        answer = studio.post(f"{RUNS}clone/", json=body)
        assert (answer.status_code, answer.json()) == (
            201,
            {"message": "Course cloned successfully."},
        )
        # The copy has the title and start of its source.
        clone = studio.get(f"{RUNS}{copy}/").json()
        assert clone["title"] == source["title"]
        assert clone["schedule"]["start"] == source["schedule"]["start"]
        assert clone["schedule"]["enrollment_start"] is None  # enrollment dates are not copied
        assert {member["role"] for member in clone["team"]} == {"instructor", "staff"}
        # A run is cloned only once to the same key.
        second_answer = studio.post(f"{RUNS}clone/", json=body)
        assert (second_answer.status_code, second_answer.json()) == (
            400,
            {"non_field_errors": ["Destination course already exists."]},
        )
        changed = studio.put(
            f"{RUNS}{copy}/",
            json={
                "title": "A copy",
                "pacing_type": "instructor_paced",
                "schedule": {"start": "2026-02-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"},
            },
        )
        assert changed.status_code == 200
        assert set(changed.json()) == {
            "schedule", "pacing_type", "team", "id", "title", "images",
        }  # fmt: skip
        assert changed.json()["pacing_type"] == "instructor_paced"
        page = studio.get(RUNS, params={"page_size": 100}).json()
    assert {"count", "next", "previous", "num_pages", "current_page", "start"} < set(page)
    assert len(page["results"]) == 100 < page["count"]  # a full page of several
    # The LMS has the changed values.
    with lms.api() as api:
        run = api.get(f"/api/courses/v1/courses/{copy}").json()
        modes = api.get(f"/api/course_modes/v1/courses/{copy}/").json()
    assert (run["name"], run["start"]) == ("A copy", "2026-02-01T00:00:00Z")
    assert modes == []  # a copy has no modes; MITx Online adds them


def test_studio_creates_a_run_and_refuses_incomplete_requests(lms: EmbeddedLms, name: str) -> None:
    new = {"org": "NewX", "number": name, "run": "R1", "title": "New", "pacing_type": "self_paced"}
    with jwt_client(lms) as studio:
        answer = studio.post(RUNS, json=new)
        assert answer.status_code == 201
        assert {key: answer.json()[key] for key in ("id", "org", "number", "run", "title")} == {
            "id": f"course-v1:NewX+{name}+R1",
            "org": "NewX",
            "number": name,
            "run": "R1",
            "title": "New",
        }
        # Refused: missing fields, an unknown source, no end date, an unknown member, no token.
        assert studio.post(RUNS, json={"org": "NewX"}).json()["title"] == [
            "This field is required."
        ]
        unknown_source = {
            "source_course_id": "course-v1:no+such+run",
            "destination_course_id": DEMO,
        }
        assert studio.post(f"{RUNS}clone/", json=unknown_source).json() == {
            "non_field_errors": ["Source course does not exist."]
        }
        without_end = {"title": "x", "schedule": {"start": "2026-02-01T00:00:00Z"}}
        assert studio.put(f"{RUNS}{DEMO}/", json=without_end).json() == {
            "schedule": {"end": ["This field is required."]}
        }
        unknown_member = {"title": "x", "team": [{"user": "nobody", "role": "staff"}]}
        assert studio.put(f"{RUNS}{DEMO}/", json=unknown_member).json() == {
            "team": ["Course team user does not exist"]
        }
    with lms.browser() as browser:
        assert browser.get(RUNS).status_code == 401


def create_staff_client(lms: EmbeddedLms, name: str, *, permitted: bool) -> None:
    """Creates a staff account of this name, and an OAuth client of the account. permitted: whether
    the account may retire learners."""
    lms.shell(f"""
from django.contrib.auth.models import Permission
from oauth2_provider.models import get_application_model
from usher.embedded.home import seeds
user = seeds.create_person("{name}", "{name}@x.example", staff=True)
if {permitted}:
    user.user_permissions.add(Permission.objects.get(codename="add_userretirementrequest"))
model = get_application_model()
model.objects.create(
    client_id="{name}-id", client_secret="{name}-secret", user=user, name="{name}",
    client_type="confidential", authorization_grant_type="client-credentials",
)
""")


def test_only_staff_with_the_permission_retire_learners(lms: EmbeddedLms, name: str) -> None:
    learner, permitted, not_permitted = f"{name}l", f"{name}y", f"{name}n"
    lms.register(learner)
    create_staff_client(lms, not_permitted, permitted=False)
    create_staff_client(lms, permitted, permitted=True)
    body = {"usernames": f"{learner}, no-such-learner"}
    with jwt_client(lms, not_permitted) as api:
        assert api.post(RETIRE, json=body).status_code == 403
    with jwt_client(lms, permitted) as api:
        assert api.post(RETIRE, json={}).json() == {
            "successful_user_retirements": [],
            "failed_user_retirements": [],
        }
        assert api.post(RETIRE, json=body).json() == {
            "successful_user_retirements": [learner],
            "failed_user_retirements": ["no-such-learner"],
        }
        # The learner's retirement has been requested already.
        assert api.post(RETIRE, json={"usernames": learner}).json() == {
            "successful_user_retirements": [],
            "failed_user_retirements": [learner],
        }
    with lms.browser() as browser:
        assert browser.post(RETIRE, json=body).status_code == 401
    output = lms.shell(f"""
from django.contrib.auth.models import User
from social_django.models import UserSocialAuth
from usher.embedded.user_api.models import UserRetirementStatus as Status
user = User.objects.get(username="{learner}")
print(user.email.endswith("@retired.invalid"), user.has_usable_password(),
      UserSocialAuth.objects.filter(user=user).count(),
      Status.objects.get(user=user).current_state.state_name)
""")
    assert output == "True False 0 PENDING"
    # The address of a retired account stays taken, in upper or lower case.
    old_email = f"{learner}@learners.example".upper()
    registration = lms.register(f"{name}a", email=old_email)
    assert (registration.status_code, registration.json()["error_code"]) == (409, "duplicate-email")


def test_retirement_and_lti_endpoints_do_not_exist_without_their_features(
    closed_lms: EmbeddedLms,
) -> None:
    with closed_lms.api() as api:
        assert [api.post(path, json={}).status_code for path in (RETIRE, LTI_FIX)] == [404, 404]


def test_the_lti_endpoint_frees_the_email_address_of_an_lti_account(
    lms: EmbeddedLms, name: str
) -> None:
    # As in the plugin, an LTI account has its LTI user id as its username.
    lti_email, other_email = f"{name}a@x.example", f"{name}b@x.example"
    lms.shell(f"""
from usher.embedded.home import seeds
from usher.embedded.lti_provider.models import LtiConsumer, LtiUser
consumer = LtiConsumer.objects.create(consumer_name="{name}")
for username, email, lti_user_id in (
    ("{name}a", "{lti_email}", "{name}a"), ("{name}b", "{other_email}", "another")
):
    person = seeds.create_person(username, email)
    LtiUser.objects.create(lti_consumer=consumer, lti_user_id=lti_user_id, edx_user=person)
""")

    def fix(**body: str) -> tuple[int, str]:
        answer = api.post(LTI_FIX, json=body)
        return answer.status_code, answer.text

    with lms.api() as api:
        assert fix() == (400, "email is required")
        assert fix(email="nobody@x.example") == (404, '{"detail":"Not found."}')
        assert fix(email=other_email) == (
            400,
            "User with the given email does not appear to be an LTI-created user.",
        )
        assert fix(email=lti_email) == (200, "")
        assert fix(email=lti_email)[0] == 404  # the account is no LTI account any more
    assert lms.register(f"{name}c", email=lti_email).status_code == 200


@pytest.mark.parametrize(
    ("token", "course", "expected"),
    [
        ("service-worker-token", DEMO, (200, None)),
        ("service-worker-token", "course-v1:No+Such+Run", (404, "course_does_not_exist")),
        ("service-worker-token", "a+b+c", (404, "invalid_course_key")),
        ("learner-token", DEMO, (403, None)),
        ("no-such-token", DEMO, (401, None)),
    ],
)
def test_the_course_outline_is_for_staff_and_existing_runs(
    lms: EmbeddedLms, token: str, course: str, expected: tuple[int, str | None]
) -> None:
    with lms.api(token) as api:
        answer = api.get(f"{OUTLINE}/{course}/")
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("error_code")) == expected
    if answer.status_code == 200:
        assert (body["course_id"], body["modules"]) == (DEMO, [])


def test_removing_the_conformance_learner_reports_an_account_that_stays_active(
    lms: EmbeddedLms,
) -> None:
    """The test learner of ``usher conformance`` retires its own account. An LMS without retirement
    states refuses the retirement."""
    imports = "from usher.embedded.user_api import models, retirement\n"
    with lms.browser() as session, lms.api() as service_worker:
        learner = register(session, "service-worker-token")
        lms.shell(imports + "models.RetirementState.objects.all().delete()")
        try:
            message = remove(learner, service_worker, "service-worker-token")
            assert message.startswith(f"the account {learner.username} is still active")
        finally:
            lms.shell(imports + "retirement.populate_states()")
        assert remove(learner, service_worker, "service-worker-token") == ""
