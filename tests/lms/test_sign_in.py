"""Sign-in through the application ends on the requested page, or on a page that says why it failed.
It never ends at a form, in another person's account or in a loop."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.lms.conftest import Lms, account, connected_lms, description

#: SQL that finds the account with this username.
USER = "select id, email, is_active, password from auth_user where username = ?"


def last_answer(browser: httpx.Client) -> httpx.Response:
    return browser.last  # type: ignore[attr-defined]


def paths_of(response: httpx.Response) -> list[str]:
    """The paths of the requests that led to this response."""
    return [step.url.path for step in [*response.history, response]]


def test_an_unknown_learner_is_signed_in_without_a_form(lms: Lms, name: str) -> None:
    browser = lms.sign_in(name)

    assert last_answer(browser).json() == {"username": name}
    assert "/register" not in paths_of(last_answer(browser))
    user_id, email, is_active, password = lms.execute(USER, name)[0]
    assert (email, is_active) == (f"{name}@learners.example", 1)
    assert password and not password.startswith("!")
    assert lms.execute("select name from auth_userprofile where user_id = ?", user_id) == [
        (f"Name {name}",)
    ]
    assert lms.execute(
        "select provider, uid from social_auth_usersocialauth where user_id = ?", user_id
    ) == [("mitxpro-oauth2", name)]
    assert lms.execute("select 1 from auth_registration where user_id = ?", user_id) == [(1,)]


def test_the_redirect_uri_is_sent_as_it_is_registered(lms: Lms) -> None:
    """Some providers compare redirect URIs exactly, so the LMS does not add ``redirect_state``."""
    with lms.browser() as browser:
        start = browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login", follow_redirects=False)

    assert "redirect_state" not in start.headers["Location"]
    assert "state=" in start.headers["Location"]


def test_a_known_learner_signs_in_again(lms: Lms, name: str) -> None:
    lms.sign_in(name)

    assert last_answer(lms.sign_in(name)).json() == {"username": name}
    assert len(lms.execute(USER, name)) == 1


@pytest.mark.parametrize("page", ["/login", "/register"])
def test_the_lms_s_sign_in_and_registration_pages_redirect_to_the_application(
    lms: Lms, name: str, page: str
) -> None:
    lms.sign_in(name)  # from now on, the application signs every browser in as this learner
    with lms.browser() as browser:
        arrived = browser.get(page, params={"next": "/api/user/v1/me"})

    assert arrived.json() == {"username": name}


def test_the_operator_can_open_the_lms_s_own_form(lms: Lms) -> None:
    with lms.browser() as browser:
        page = browser.get("/login", params={"next": "/admin/?tpa_hint=oa2-off"})

    assert (page.status_code, page.url.path, page.history) == (200, "/login", [])


def test_learners_sign_in_if_the_micro_frontend_is_on_and_visitors_are_redirected() -> None:
    settings = {
        "FEATURES": {"ENABLE_AUTHN_MICROFRONTEND": True},
        "AUTHN_MICROFRONTEND_URL": "http://mfe.invalid",
        "USHER_REDIRECT_ANONYMOUS": True,
        "USHER_ANONYMOUS_PATHS": [r"^/courses$"],
    }
    with connected_lms(**settings) as lms:
        assert last_answer(lms.sign_in("mfelearner")).json() == {"username": "mfelearner"}
        with lms.browser() as browser:
            arrived = browser.get("/login", params={"next": "/api/user/v1/me"})
        assert arrived.json() == {"username": "mfelearner"}
        # A visitor who opens a page of the LMS is signed in through the application.
        with lms.browser() as browser:
            page_headers = {"Accept": "text/html"}  # only requests for pages are redirected
            assert browser.get("/dashboard", headers=page_headers).url.path == "/dashboard"
            assert browser.get("/api/user/v1/me").json() == {"username": "mfelearner"}
        # Not redirected: the operator's own exception, and a path that Usher itself excepts.
        with lms.browser() as browser:
            for path in ("/courses", "/heartbeat"):
                arrived = browser.get(path, headers=page_headers)
                assert (arrived.history, arrived.url.path) == ([], path)
        # This username is taken. A page of Usher says so; the micro-frontend would show a form.
        stopped = last_answer(lms.sign_in("login_service_user"))
        assert (stopped.status_code, stopped.url.path) == (403, "/usher/stopped/")


def create_unlinked_account(lms: Lms, name: str) -> None:
    """Creates an LMS account without a link, as if registered in the LMS itself."""
    script = (
        "from django.contrib.auth import get_user_model as g; from usher.lms import conf; "
        f"u = g().objects.create_user({name!r}, {name!r} + '@Elsewhere.example', 'pw'); "
        f"conf.platform().profile_model().objects.create(user=u, name='Old')"
    )
    result = lms.run("shell", "-c", script)
    assert result.returncode == 0, result.stderr


#: Runs the pipeline's step that creates an account, while another request creates the same account.
SIGN_IN_DURING_CREATION = """
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from social_django.utils import load_backend, load_strategy
from usher.lms import pipeline

request = RequestFactory().get("/")
request.user, request.session = AnonymousUser(), {}
strategy = load_strategy(request)
backend = load_backend(strategy, "mitxpro-oauth2", redirect_uri=None)
details = {"username": NAME, "email": NAME + "@learners.example", "name": "Ada"}

# The first call stands for a request of the application that comes just before the sign-in's call.
def create_twice(*given, real=pipeline.create_account):
    real(*given)
    return real(*given)

pipeline.create_account = create_twice
taken = pipeline.create_learner(strategy, backend, details, NAME, response={})
found_by_email = pipeline.create_learner(strategy, backend, details, NAME, user=taken["user"])
for found in (taken, found_by_email):
    print(found["user"].username, found["social"].uid, found["is_new"])
"""


def test_a_sign_in_uses_an_account_that_the_application_creates_meanwhile(
    lms: Lms, name: str
) -> None:
    result = lms.run("shell", "-c", f"NAME = {name!r}\n{SIGN_IN_DURING_CREATION}")
    assert result.returncode == 0, result.stderr
    # Both calls of the step found the account: its username, its link, and that it is not new.
    assert result.stdout.splitlines()[-2:] == [f"{name} {name} False"] * 2


def test_an_account_without_a_link_is_not_given_to_a_learner(lms: Lms, name: str) -> None:
    create_unlinked_account(lms, name)

    by_name = lms.sign_in(name)
    # The application sends the address in another case, which counts as the same address.
    by_email = lms.sign_in(name + "x", email=f"{name}@elsewhere.EXAMPLE")

    for browser in (by_name, by_email):
        page = last_answer(browser)
        assert (page.status_code, page.url.path) == (403, "/usher/stopped/")
        assert "already exists" in page.text
        assert browser.get("/api/user/v1/me").status_code == 401
        # Reloading shows the page again.
        assert browser.get("/usher/stopped/").status_code == 403
    assert (
        lms.execute("select 1 from social_auth_usersocialauth where uid like ?", name + "%") == []
    )
    assert lms.execute(USER, name + "x") == []


def test_a_username_that_is_taken_in_another_case_is_refused(lms: Lms, name: str) -> None:
    create_unlinked_account(lms, name)

    page = last_answer(lms.sign_in(name.upper(), email=f"{name}2@learners.example"))

    assert page.status_code == 403
    assert lms.execute(USER, name.upper()) == []


@pytest.mark.parametrize("form", ["{}\n", "\t{}", "{} "])
def test_a_username_with_white_space_around_it_is_refused(lms: Lms, name: str, form: str) -> None:
    """The registration form would trim it, and the account would get it untrimmed."""
    page = last_answer(lms.sign_in(form.format(name), email=f"{name}@learners.example"))

    assert (page.status_code, page.url.path) == (403, "/usher/stopped/")
    assert lms.execute("select 1 from auth_user where username like ?", f"%{name}%") == []


def test_white_space_around_an_address_is_left_out(lms: Lms, name: str) -> None:
    lms.sign_in(name, email=f" {name}@learners.example\n").close()

    assert lms.value("select email from auth_user where username = ?", name) == (
        f"{name}@learners.example"
    )


def test_an_operator_links_several_accounts_with_one_command(lms: Lms, name: str) -> None:
    create_unlinked_account(lms, name)
    other = f"{name}_2"
    create_unlinked_account(lms, other)
    # The option may be repeated and may have several values. There is no account "nobody".
    arguments = (
        "usher_link",
        "--application",
        "campus",
        "--username",
        name,
        "nobody",
        "--username",
        other,
    )

    result = lms.run(*arguments)

    assert result.returncode == 1
    assert "nobody" in result.stderr
    assert result.stdout.count('"linked"') == 2
    for username in (name, other):
        assert last_answer(lms.sign_in(username)).json() == {"username": username}


def test_an_operator_links_an_account(lms: Lms, name: str) -> None:
    create_unlinked_account(lms, name)
    arguments = ("usher_link", "--username", name, "--application", "campus")

    assert '"linked"' in lms.run(*arguments).stdout
    assert '"unchanged"' in lms.run(*arguments).stdout
    assert last_answer(lms.sign_in(name)).json() == {"username": name}

    assert '"unlinked"' in lms.run(*arguments, "--unlink").stdout
    assert last_answer(lms.sign_in(name)).status_code == 403


def test_removing_a_link_into_another_account_requires_that_account_s_name(
    lms: Lms, name: str
) -> None:
    learner = f"{name}l"
    lms.sign_in(name).close()
    # The link of ``learner`` now leads to the account ``name``.
    change_link = "update social_auth_usersocialauth set uid = ? where uid = ?"
    lms.execute(change_link, learner, name)
    arguments = ("usher_link", "--application", "campus", "--unlink", "--username")
    browser = lms.sign_in(learner)
    assert last_answer(browser).json() == {"username": name}

    # If only one of the two names is given, the command refuses to remove the link.
    by_learner, by_account = lms.run(*arguments, learner), lms.run(*arguments, name)
    assert f"linked to LMS user '{name}', not to '{learner}'" in by_learner.stderr
    assert f"give --account {name}" in by_learner.stderr
    assert f"linked to the learner '{learner}'" in by_account.stderr
    assert f"give --username {learner} --account {name}" in by_account.stderr
    assert by_learner.returncode != 0 != by_account.returncode
    wrong_account = lms.run(*arguments, learner, "--account", f"{name}x")
    assert wrong_account.returncode != 0

    assert '"unlinked"' in lms.run(*arguments, learner, "--account", name).stdout
    assert browser.get("/api/user/v1/me").status_code == 401
    assert '"unchanged"' in lms.run(*arguments, learner, "--account", name).stdout
    assert lms.execute(USER, name) != []
    without_unlink = (
        "usher_link",
        "--application",
        "campus",
        "--username",
        name,
        "--account",
        name,
    )
    assert "--account needs --unlink" in lms.run(*without_unlink).stderr


def test_a_link_into_another_account_is_listed_and_can_be_moved(lms: Lms, name: str) -> None:
    other = name + "b"
    for username in (name, other):
        lms.sign_in(username).close()
    # The link of ``name`` now leads to the account of ``other``.
    lms.execute(
        "update social_auth_usersocialauth set user_id = (select id from auth_user where "
        "username = ?) where uid = ?",
        other,
        name,
    )

    def read_links(username: str) -> dict[str, object]:
        """Returns the account to which the link of the learner ``username`` leads, and the learners
        whose links lead to the account ``username``."""
        with lms.api() as api:
            links = api.get("/usher/api/v1/links/", params={"username": username}).json()
        return {
            "leads_to": links["leads_to"]["username"],
            "linked_from": links["account"]["linked_from"],
        }

    assert read_links(name) == {"leads_to": other, "linked_from": []}
    assert read_links(other) == {"leads_to": other, "linked_from": [name, other]}
    arguments = ("usher_link", "--username", name, "--application", "campus")
    assert "--move" in lms.run(*arguments).stderr
    assert '"linked"' in lms.run(*arguments, "--move").stdout
    assert '"unchanged"' in lms.run(*arguments, "--move").stdout
    assert read_links(name) == {"leads_to": name, "linked_from": [name]}
    assert read_links(other) == {"leads_to": other, "linked_from": [other]}
    for username in (name, other):
        assert last_answer(lms.sign_in(username)).json() == {"username": username}


@pytest.mark.parametrize("option", [[], ["--move"]], ids=["link", "move"])
def test_an_account_of_another_learner_is_not_linked(
    lms: Lms, name: str, option: list[str]
) -> None:
    """The other learner would keep the access to it. Staff renamed that learner's account."""
    other = name + "b"
    for username in (name, other) if option else (other,):
        lms.sign_in(username).close()
    rename = "update auth_user set username = ? where username = ?"
    lms.execute(rename, f"{name}_new", name)
    lms.execute(rename, name, other)
    links = "select uid, user_id from social_auth_usersocialauth where uid like ? order by uid"
    before = lms.execute(links, f"{name}%")
    arguments = ("usher_link", "--application", "campus", "--username")

    refused = lms.run(*arguments, name, *option)

    assert refused.returncode != 0
    unlinking = f"--unlink --username {other} --account {name}"
    assert unlinking in refused.stderr
    assert lms.execute(links, f"{name}%") == before
    lms.run("usher_link", "--application", "campus", *unlinking.split())
    assert '"linked"' in lms.run(*arguments, name, *option).stdout
    uids = "select uid from social_auth_usersocialauth s join auth_user u on u.id = s.user_id "
    assert lms.execute(f"{uids} where username = ?", name) == [(name,)]


def test_linking_creates_a_missing_profile(lms: Lms, name: str) -> None:
    """createsuperuser creates no profile, and the platform's sign-in needs one."""
    create_unlinked_account(lms, name)
    condition = "user_id = (select id from auth_user where username = ?)"
    lms.execute(f"delete from auth_userprofile where {condition}", name)

    lms.run("usher_link", "--username", name, "--application", "campus")

    assert last_answer(lms.sign_in(name)).json() == {"username": name}


@pytest.mark.parametrize(
    ("username", "application", "complaint"),
    [("nobody_here", "campus", "no LMS user"), ("edx", "nowhere", "only: campus")],
)
def test_linking_an_unknown_user_or_application_is_refused(
    lms: Lms, username: str, application: str, complaint: str
) -> None:
    result = lms.run("usher_link", "--username", username, "--application", application)

    assert result.returncode == 1
    assert complaint in result.stderr


def test_a_browser_with_another_learner_s_session_is_stopped(lms: Lms, name: str) -> None:
    """The browser is signed in to the LMS as one learner and to the application as another."""
    lms.sign_in(name + "b")
    for other in (name + "b", name + "c"):  # with an LMS account, and without
        browser = lms.sign_in(name + "a")
        lms.application.signed_in_learner = {
            "username": other,
            "email": f"{other}@x.example",
            "name": "Other",
        }

        page = browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login&next=/api/user/v1/me")

        assert (page.status_code, page.url.path) == (403, "/usher/stopped/")
        assert "somebody else" in page.text
        assert browser.get("/api/user/v1/me").json() == {"username": name + "a"}

        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        switched = browser.post(
            "/usher/switch/",
            data={"csrfmiddlewaretoken": token.group(1)},
            headers={"Referer": f"{lms.url}/usher/stopped/"},
        )
        assert switched.json() == {"username": other}


def test_switching_to_another_learner_requires_the_form(lms: Lms, name: str) -> None:
    browser = lms.sign_in(name)

    assert browser.post("/usher/switch/").status_code == 403
    assert browser.get("/usher/switch/").status_code == 405
    assert browser.get("/api/user/v1/me").json() == {"username": name}


def test_a_page_reports_a_username_name_or_email_that_the_lms_does_not_accept(
    lms: Lms, name: str
) -> None:
    for invalid_data in ({"username": name + " !"}, {"name": "<script>"}, {"email": "nonsense"}):
        lms.application.signed_in_learner = {
            "username": name,
            "email": f"{name}@x.example",
            "name": "N",
            **invalid_data,
        }
        with lms.browser() as browser:
            page = browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login")
        assert page.status_code == 403
        assert "couldn" in page.text
        assert "<script>" not in page.text
    assert lms.execute(USER, name) == []


def test_a_learner_with_an_unfinished_registration_gets_a_link_to_the_application(lms: Lms) -> None:
    """MITx Online gives no username until a person has completed the profile."""
    lms.application.signed_in_learner = {"username": None, "email": "x@x.example"}
    with lms.browser() as browser:
        page = browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login")

    assert (page.status_code, page.url.path) == (403, "/usher/stopped/")
    assert "Complete your profile first" in page.text
    assert f'href="{lms.application.url}/"' in page.text


def test_an_application_that_sends_neither_username_nor_email_stops_the_sign_in(lms: Lms) -> None:
    lms.application.signed_in_learner = {"username": None, "email": ""}
    with lms.browser() as browser:
        page = browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login")

    assert (page.status_code, page.url.path) == (502, "/usher/stopped/")


def test_an_application_that_fails_stops_the_sign_in_on_a_page(lms: Lms, name: str) -> None:
    lms.application.token_status = 401
    try:
        page = last_answer(lms.sign_in(name))
    finally:
        lms.application.token_status = 200

    assert (page.status_code, page.url.path) == (502, "/usher/stopped/")
    # To the application, back to the LMS, and to the page: no loop.
    assert len(page.history) == 3
    assert last_answer(lms.sign_in(name)).json() == {"username": name}


def test_a_learner_of_one_application_is_no_learner_of_another(lms: Lms, name: str) -> None:
    second = lms.application.description(
        name="xpro",
        backend="xpro-oauth2",
        client_id="lms-at-xpro",
        oauth_name="xpro-oauth-app",
        oauth_client_id="xpro-oauth-id",
        oauth_redirect_uris=["http://xpro.example/login/_private/complete"],
    )
    lms.provision(description(lms.application.description(), second))
    try:
        lms.application.signed_in_learner = {
            "username": name,
            "email": f"{name}@x.example",
            "name": "N",
        }
        with lms.browser() as browser:
            start = "/auth/login/xpro-oauth2/?auth_entry=login&next=/api/user/v1/me"
            assert browser.get(start).json() == {"username": name}
        links = "select provider from social_auth_usersocialauth where uid = ?"
        assert lms.execute(links, name) == [("xpro-oauth2",)]
        # The first application's learner of this name is another person.
        assert last_answer(lms.sign_in(name)).status_code == 403
    finally:
        lms.provision({"applications": [second]}, "--remove", "--purge")


def test_a_learner_signs_in_to_an_account_that_the_batch_api_created(lms: Lms, name: str) -> None:
    with lms.api() as api:
        response = api.post("/usher/api/v1/accounts/", json={"items": [account(name)]})
    assert response.json()["results"][0]["status"] == "created"

    assert last_answer(lms.sign_in(name)).json() == {"username": name}


class TestLinkingAnAccountInUse:
    """An operator links a learner to an account that somebody else registered and uses."""

    @pytest.fixture
    def used_account(self, lms: Lms, name: str) -> str:
        """The name of an account that has every kind of credential with which its former owner
        could sign in."""
        script = f"""
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from social_django.models import UserSocialAuth
from usher.embedded.student.models import AccountRecovery, PendingEmailChange, UserProfile
u = get_user_model().objects.create_user({name!r}, "{name}@learners.example", "squatter-pass-1")
UserProfile.objects.create(user=u, name="N")
client = Application.objects.get(client_id="campus-at-the-lms")
later = timezone.now() + timedelta(days=1)
token = AccessToken.objects.create(
    user=u, application=client, token="access-{name}", scope="read write", expires=later)
RefreshToken.objects.create(user=u, application=client, token="r-{name}", access_token=token)
Grant.objects.create(
    user=u, application=client, code="code-{name}", expires=later, redirect_uri="http://x/")
UserSocialAuth.objects.create(user=u, provider="google-oauth2", uid="squatter@evil.example")
AccountRecovery.objects.create(user=u, secondary_email="squatter-{name}@evil.example")
PendingEmailChange(user=u).request_change("other-{name}@evil.example")
"""
        result = lms.run("shell", "-c", script)
        assert result.returncode == 0, result.stderr
        return name

    def test_linking_ends_the_former_owner_s_password_sessions_and_tokens(
        self, lms: Lms, used_account: str
    ) -> None:
        # The former owner is signed in by password and has an access token.
        browser = lms.browser()
        form = {"email": f"{used_account}@learners.example", "password": "squatter-pass-1"}
        browser.get("/login")
        headers = {"X-CSRFToken": browser.cookies.get("csrftoken", ""), "Referer": lms.url}
        sign_in = "/api/user/v1/account/login_session/"
        assert browser.post(sign_in, data=form, headers=headers).status_code == 200
        assert browser.get("/api/user/v1/me").json() == {"username": used_account}
        with lms.api(f"access-{used_account}") as api:
            assert api.get("/api/user/v1/me").status_code == 200

        result = lms.run("usher_link", "--username", used_account, "--application", "campus")
        assert '"linked"' in result.stdout, result.stderr

        assert browser.get("/api/user/v1/me").status_code == 401
        assert browser.post(sign_in, data=form, headers=headers).status_code != 200
        with lms.api(f"access-{used_account}") as api:
            assert api.get("/api/user/v1/me").status_code == 401
        condition = "user_id = (select id from auth_user where username = ?)"
        for table in (
            "oauth2_provider_accesstoken",
            "oauth2_provider_refreshtoken",
            "oauth2_provider_grant",
            "auth_accountrecovery",
            "student_pendingemailchange",
        ):
            rows = lms.execute(f"select 1 from {table} where {condition}", used_account)
            assert rows == [], table
        links = f"select provider from social_auth_usersocialauth where {condition}"
        assert lms.execute(links, used_account) == [("mitxpro-oauth2",)]
        assert last_answer(lms.sign_in(used_account)).json() == {"username": used_account}

    def test_linking_again_ends_no_session_of_the_learner(
        self, lms: Lms, used_account: str
    ) -> None:
        lms.run("usher_link", "--username", used_account, "--application", "campus")
        browser = lms.sign_in(used_account)
        lms.run("usher_link", "--username", used_account, "--application", "campus")
        assert browser.get("/api/user/v1/me").json() == {"username": used_account}


class TestCourseLinks:
    """Course addresses that MITx Online builds: ``CourseRun.courseware_url``."""

    RUN = "course-v1:edX+DemoX+Demo_Course"

    def test_a_link_of_mitx_online_opens_the_course(self, lms: Lms, name: str) -> None:
        browser = lms.sign_in(name)
        browser.follow_redirects = False
        answer = browser.get(f"/learn/course/{self.RUN}/home")
        assert answer.status_code == 302
        assert answer.headers["location"] == f"/courses/{self.RUN}/course/"
        # The learner is not enrolled, so the platform redirects to the run's about page.
        next_page = browser.get(answer.headers["location"]).headers["location"]
        assert next_page.startswith(f"/courses/{self.RUN}/about")

    @pytest.mark.parametrize(
        "path", ["/learn/course/a/b/home", "/learn/course//home", "/learn/course/x"]
    )
    def test_malformed_course_links_are_not_found(self, lms: Lms, path: str) -> None:
        with lms.browser() as browser:
            assert browser.get(path).status_code == 404

    def test_a_course_link_redirects_only_within_the_lms(self, lms: Lms) -> None:
        with lms.browser() as browser:
            browser.follow_redirects = False
            answer = browser.get("/learn/course/%5C%5Cevil.example%5C/home")
        assert answer.headers["location"].startswith("/courses/%5C%5Cevil")


class TestDirectRegistration:
    """Registration in the LMS itself. By default, an LMS with an application accepts it only with a
    token of the application."""

    PATH = "/user_api/v1/account/registration/"
    ALL_PATHS = (
        PATH,
        "/user_api/v1/account/registration",
        "/user_api/v2/account/registration/",
        "/api/user/v1/account/registration/",
        "/api/user/v2/account/registration/",
        "/create_account",
    )

    @staticmethod
    def form(name: str, **more: str) -> dict[str, str]:
        """The form with which somebody registers in the LMS under this name."""
        return {
            "username": name,
            "email": f"{name}@learners.example",
            "name": "Mallory",
            "password": "Squatter-pass-1",
            "honor_code": "true",
            "terms_of_service": "true",
            **more,
        }

    @pytest.mark.parametrize("path", ALL_PATHS)
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"provider": "mitxpro-oauth2"},
            {"access_token": "x"},
            {"provider": "", "access_token": "x"},
            {"provider": "mitxpro-oauth2", "access_token": ""},
        ],
        ids=str,
    )
    def test_registration_without_the_application_is_refused(
        self, lms: Lms, name: str, path: str, more: dict[str, str]
    ) -> None:
        with lms.browser() as browser:
            answer = browser.post(path, data=self.form(name, **more))
        assert answer.status_code in (403, 404)
        assert lms.execute(USER, name) == []
        assert last_answer(lms.sign_in(name)).json() == {"username": name}

    def test_an_unfinished_sign_in_does_not_allow_registration(self, lms: Lms, name: str) -> None:
        with lms.browser() as browser:
            browser.follow_redirects = False
            browser.get("/auth/login/mitxpro-oauth2/", params={"auth_entry": "register"})
            answer = browser.post(self.PATH, data=self.form(name))
        assert answer.status_code == 403
        assert lms.execute(USER, name) == []

    def test_registration_with_a_token_of_the_application_succeeds(
        self, lms: Lms, name: str
    ) -> None:
        token = lms.application.issue_token(
            {"username": name, "email": f"{name}@learners.example", "name": "Ada"}
        )
        form = self.form(name, provider="mitxpro-oauth2", access_token=token)
        with lms.browser() as browser:
            assert browser.post(self.PATH, data=form).status_code == 200

    def test_registration_with_an_unknown_token_is_refused(self, lms: Lms, name: str) -> None:
        form = self.form(name, provider="mitxpro-oauth2", access_token="made-up")
        with lms.browser() as browser:
            assert browser.post(self.PATH, data=form).status_code == 400
        assert lms.execute(USER, name) == []

    def test_direct_registration_can_be_allowed(self, name: str) -> None:
        with connected_lms(USHER_DIRECT_REGISTRATION=True) as lms, lms.browser() as browser:
            assert browser.post(self.PATH, data=self.form(name)).status_code == 200

    def test_an_lms_whose_settings_name_no_application_allows_direct_registration(
        self, name: str
    ) -> None:
        with connected_lms(USHER_BACKENDS={}) as lms, lms.browser() as browser:
            assert browser.post(self.PATH, data=self.form(name)).status_code == 200
