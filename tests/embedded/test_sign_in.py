"""Sign-in through a provider, as the platform does it without any plugin."""

import re

import pytest

from tests.support.embedded import EmbeddedLms

AUTHORIZE = (
    "/oauth2/authorize?client_id=lms-client-id&response_type=code&scope=read"
    "&redirect_uri=http://app.example:8013/login/_private/complete"
)


def test_a_known_learner_arrives_on_the_dashboard(lms: EmbeddedLms, name: str) -> None:
    assert lms.register(name).status_code == 200
    with lms.browser() as browser:
        assert lms.sign_in(browser, name).headers["Location"] == "/dashboard"
        page = browser.get("/dashboard")
        assert page.status_code == 200
        assert name in page.text


def test_next_may_be_the_authorize_page(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        target = lms.sign_in(browser, name, next_=AUTHORIZE).headers["Location"]
        assert target == AUTHORIZE
        landing = browser.get(target).headers["Location"]
    assert re.match(r"http://app\.example:8013/login/_private/complete\?code=\w+$", landing)


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "//evil.example/", "https:evil.example"]
)
def test_next_never_redirects_to_another_site(lms: EmbeddedLms, name: str, target: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        assert lms.sign_in(browser, name, next_=target).headers["Location"] == "/dashboard"


def test_an_unknown_learner_completes_the_form_that_the_page_posts(
    lms: EmbeddedLms, name: str
) -> None:
    with lms.browser() as browser:
        assert lms.come_back(browser, name).headers["Location"] == "/register"
        page = browser.get("/register").text
        assert 'data-submit="1"' in page
        form = dict(re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', page))
        filled_in = {"username": name, "email": f"{name}@learners.example", "name": f"Name {name}"}
        assert {field: form[field] for field in filled_in} == filled_in
        response = browser.post("/user_api/v1/account/registration/", data=form)
        assert response.status_code == 200, response.text
        assert response.json()["authenticated_user"]["username"] == name
        finish = browser.get("/auth/complete/mitxpro-oauth2/")
        assert finish.headers["Location"] == "/dashboard"
        assert browser.get("/api/user/v1/me").json() == {"username": name}
    with lms.browser() as later:
        assert lms.sign_in(later, name).headers["Location"] == "/dashboard"


def test_a_username_of_somebody_else_is_stopped_with_a_page_that_says_so(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        assert lms.come_back(browser, "plainlearner").headers["Location"] == "/register"
        page = browser.get("/register").text
    assert "You are not signed in yet" in page
    assert "has not been linked" in page
    assert 'id="registration"' not in page


def test_the_platform_joins_an_account_with_the_same_active_email(
    lms: EmbeddedLms, name: str
) -> None:
    email = f"{name}@learners.example"
    lms.shell(
        "from usher.embedded.home.seeds import person\n"
        f"person('old{name}'[:30], {email!r}, 'A password 1')"
    )
    with lms.browser() as browser:
        assert lms.sign_in(browser, name).headers["Location"] == "/dashboard"
        assert browser.get("/api/user/v1/me").json() == {"username": f"old{name}"[:30]}


def test_a_password_does_not_open_an_account_that_is_not_active(
    lms: EmbeddedLms, name: str
) -> None:
    lms.shell(
        "from usher.embedded.home.seeds import person; "
        f"user = person({name!r}, '{name}@example.org', 'A password 1'); "
        "user.is_active = False; user.save()"
    )
    with lms.browser() as browser:
        browser.get("/login")
        answer = browser.post(
            "/user_api/v1/account/login_session/",
            data={"email": f"{name}@example.org", "password": "A password 1"},
            headers={"X-CSRFToken": browser.cookies["csrftoken"]},
        )
        assert answer.status_code == 400
        assert answer.json()["error_code"] == "inactive-user"
        assert browser.get("/api/user/v1/me").status_code == 401


def test_the_provider_activates_an_account_whose_registration_was_cut_short(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    lms.shell(
        "from django.contrib.auth.models import User\n"
        f"User.objects.filter(username={name!r}).update(is_active=False)"
    )
    with lms.browser() as browser:
        to = lms.sign_in(browser, name, next_=AUTHORIZE).headers["Location"]
        assert to.startswith("/auth/inactive?next=")
        assert browser.get(to).headers["Location"] == AUTHORIZE
        assert browser.get("/api/user/v1/me").json() == {"username": name}


def test_an_account_without_a_usable_password_is_refused(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    lms.shell(
        "from django.contrib.auth.models import User\n"
        f"user = User.objects.get(username={name!r})\n"
        "user.set_unusable_password(); user.save()"
    )
    with lms.browser() as browser:
        answer = lms.come_back(browser, name)
    assert (answer.status_code, answer.json()) == (403, "Your account is disabled")


def test_a_lost_state_leads_back_to_sign_in(lms: EmbeddedLms, name: str) -> None:
    with lms.browser() as browser:
        browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login")
        answer = browser.get(f"/auth/complete/mitxpro-oauth2/?state=forged&code=code-{name}")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login")


def test_profile_follows_the_provider_but_the_username_never(lms: EmbeddedLms, name: str) -> None:
    lms.register(name, name="Another Name")
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        account = browser.get(f"/api/user/v1/accounts/{name}").json()
    assert account["username"] == name
    verified = lms.shell(
        "from usher.embedded.verify_student.models import SSOVerification\n"
        f"print(SSOVerification.objects.filter(user__username={name!r}, status='approved').count())"
    )
    assert verified == "1"


def test_without_the_login_service_nobody_can_sign_in(lms: EmbeddedLms, name: str) -> None:
    rename = (
        "from oauth2_provider.models import get_application_model\n"
        "clients = get_application_model().objects.filter(client_id='{}')\n"
        "clients.update(client_id='{}')"
    )
    lms.shell(rename.format("login-service-client-id", "gone"))
    try:
        assert lms.register(name).status_code == 500
    finally:
        lms.shell(rename.format("gone", "login-service-client-id"))
    log = (lms.folder / "server.log").read_text()
    assert "'login-service-client-id', is not configured" in log


def test_a_hint_leads_straight_to_the_provider_micro_frontend_or_not(
    closed_lms: EmbeddedLms,
) -> None:
    with closed_lms.browser() as browser:
        login = browser.get("/login?next=/courses")
        register = browser.get("/register")
        closed_lms.shell(
            "from usher.embedded.third_party_auth.models import OAuth2ProviderConfig\n"
            "record = OAuth2ProviderConfig.objects.get(); record.pk = None\n"
            "record.enabled = False; record.save()"
        )
        unhinted = browser.get("/login?next=/courses")
    begin = "/auth/login/mitxpro-oauth2/?auth_entry="
    hinted = "tpa_hint%3Doa2-mitxpro-oauth2"
    assert login.headers["Location"] == f"{begin}login&next=%2Fcourses%3F{hinted}"
    assert register.headers["Location"] == f"{begin}register&next=%2Fdashboard%3F{hinted}"
    assert unhinted.headers["Location"] == "http://apps.example/authn/login?next=%2Fcourses"
