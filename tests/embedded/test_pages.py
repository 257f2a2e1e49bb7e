"""Pages: courses, sign-out, errors, the admin."""

import re

import pytest

from tests.support.embedded import EmbeddedLms


def test_a_sign_out_loads_every_application_in_a_hidden_frame(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        page = browser.get("/logout").text
        assert browser.get("/api/user/v1/me").status_code == 401
        assert "edxloggedin" not in browser.cookies
        page_after_application = browser.get(
            "/logout", headers={"Referer": "http://app.example:8013/logout/"}
        )
    frames = re.findall(r'<iframe src="([^"]+)"', page)
    assert frames == ["http://app.example:8013/logout/?no_redirect=1"]
    # The application from which the browser comes has already ended its own session.
    assert "<iframe" not in page_after_application.text


@pytest.mark.parametrize(
    ("requested_url", "expected_url"),
    [
        ("http://app.example:8013/bye", "http://app.example:8013/bye"),
        ("/courses", "/courses"),
        # Escaped twice, as in the platform.
        ("/courses?a=1&b=2", "/courses?a=1&amp;amp;b=2"),
        ("/courses/course-v1:edX DemoX Run/", "/courses/course-v1:edX+DemoX+Run/"),
        ("http://evil.example/", "/"),
        ("//evil.example/", "/"),
    ],
)
def test_sign_out_redirects_only_to_known_addresses(
    lms: EmbeddedLms, requested_url: str, expected_url: str
) -> None:
    with lms.browser() as browser:
        page = browser.get("/logout", params={"redirect_url": requested_url}).text
    assert re.search(r'data-target="([^"]*)"', page)[1] == expected_url  # type: ignore[index]


def test_sign_out_and_sign_in_pages_refuse_what_the_platform_refuses(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        unknown_client = {"redirect_url": "/courses", "client_id": "nobody"}
        assert browser.get("/logout", params=unknown_client).status_code == 500
        assert browser.post("/logout").status_code == 403  # no CSRF token
        assert browser.head("/login").status_code == 405


def test_a_run_opens_only_for_enrolled_learners(lms: EmbeddedLms, name: str) -> None:
    run = "/courses/course-v1:edX+DemoX+Demo_Course"
    lms.register(name)
    with lms.browser() as browser, lms.api() as api:
        anonymous = browser.get(f"{run}/course/")
        assert anonymous.headers["Location"].startswith("/login?next=")
        lms.sign_in(browser, name)
        assert browser.get(f"{run}/course/").headers["Location"] == f"{run}/about"
        assert "Demonstration Course" in browser.get(f"{run}/about").text
        details = {"course_id": "course-v1:edX+DemoX+Demo_Course"}
        api.post("/api/enrollment/v1/enrollment", json={"user": name, "course_details": details})
        page = browser.get(f"{run}/course/")
        assert page.status_code == 200
        assert name in page.text
        assert "Demonstration Course" in browser.get("/dashboard").text


def test_error_pages_do_not_show_the_exception(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        missing = browser.get("/nothing/here")
        # As in the platform, this endpoint fails for a malformed course key.
        broken = browser.get("/api/enrollment/v1/course/a+b+c")
    assert missing.status_code == 404
    assert broken.status_code == 500
    assert "InvalidKeyError" not in broken.text


def test_the_admin_has_pages_for_provider_records_users_and_oauth_clients(lms: EmbeddedLms) -> None:
    lms.shell(
        "from usher.embedded.home.seeds import create_person\n"
        "create_person('boss', 'boss@example.org', 'A password 1', superuser=True)"
    )
    with lms.browser() as browser:
        page = browser.get("/admin/login/").text
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)[1]  # type: ignore[index]
        data = {
            "username": "boss",
            "password": "A password 1",
            "csrfmiddlewaretoken": token,
            "next": "/admin/",
        }
        browser.post("/admin/login/", data=data, headers={"Referer": lms.url})
        for path in (
            "third_party_auth/oauth2providerconfig/",
            "third_party_auth/oauth2providerconfig/add/",
            "student/courseenrollment/",
            "student/userprofile/",
            "course_overviews/courseoverview/",
            "oauth2_provider/application/",
            "social_django/usersocialauth/",
        ):
            assert browser.get(f"/admin/{path}").status_code == 200, path


def test_the_heartbeat_reports_a_working_database(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        assert browser.get("/heartbeat").json() == {"sql": {"status": True, "message": "OK"}}
