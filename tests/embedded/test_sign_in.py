"""Sign-in through a provider, as the platform does it without any plugin."""

import re

import pytest

from tests.support.embedded import EmbeddedLms
from usher.contract.limits import USERNAME_MAX_LENGTH

#: The LMS's authorize page, with the application's client.
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


def test_sign_in_redirects_to_the_authorize_page_that_next_names(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    with lms.browser() as browser:
        target = lms.sign_in(browser, name, next_=AUTHORIZE).headers["Location"]
        assert target == AUTHORIZE
        landing = browser.get(target).headers["Location"]
    assert re.match(r"http://app\.example:8013/login/_private/complete\?code=\w+$", landing)


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "//evil.example/", "https:evil.example"]
)
def test_sign_in_ignores_a_next_url_on_another_site(
    lms: EmbeddedLms, name: str, target: str
) -> None:
    lms.register(name)
    with lms.browser() as browser:
        assert lms.sign_in(browser, name, next_=target).headers["Location"] == "/dashboard"


def test_the_prefilled_registration_form_creates_the_account_of_an_unknown_learner(
    lms: EmbeddedLms, name: str
) -> None:
    with lms.browser() as browser:
        assert lms.return_from_provider(browser, name).headers["Location"] == "/register"
        page = browser.get("/register").text
        assert 'data-submit="1"' in page  # the page submits the form by itself
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


def test_a_learner_whose_username_is_taken_is_not_signed_in_and_reads_why(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        assert lms.return_from_provider(browser, "plainlearner").headers["Location"] == "/register"
        page = browser.get("/register").text
    assert "You are not signed in yet" in page
    assert "has not been linked" in page
    assert 'id="registration"' not in page


def test_sign_in_links_an_active_account_with_the_same_email_address(
    lms: EmbeddedLms, name: str
) -> None:
    old_username, email = f"old{name}"[:USERNAME_MAX_LENGTH], f"{name}@learners.example"
    lms.shell(
        "from usher.embedded.home.seeds import create_person\n"
        f"create_person({old_username!r}, {email!r}, 'A password 1')"
    )
    with lms.browser() as browser:
        assert lms.sign_in(browser, name).headers["Location"] == "/dashboard"
        assert browser.get("/api/user/v1/me").json() == {"username": old_username}


def test_an_inactive_account_cannot_sign_in_with_its_password(lms: EmbeddedLms, name: str) -> None:
    lms.shell(
        "from usher.embedded.home.seeds import create_person; "
        f"user = create_person({name!r}, '{name}@example.org', 'A password 1'); "
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


def test_sign_in_through_a_trusted_provider_activates_an_inactive_account(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    lms.shell(
        "from django.contrib.auth.models import User\n"
        f"User.objects.filter(username={name!r}).update(is_active=False)"
    )
    with lms.browser() as browser:
        location = lms.sign_in(browser, name, next_=AUTHORIZE).headers["Location"]
        assert location.startswith("/auth/inactive?next=")
        assert browser.get(location).headers["Location"] == AUTHORIZE
        assert browser.get("/api/user/v1/me").json() == {"username": name}
    with lms.api() as api:
        account = api.get(f"/api/user/v1/accounts/{name}").json()
    assert account["is_active"] is True


def test_an_account_without_a_usable_password_is_refused(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    lms.shell(
        "from django.contrib.auth.models import User\n"
        f"user = User.objects.get(username={name!r})\n"
        "user.set_unusable_password(); user.save()"
    )
    with lms.browser() as browser:
        answer = lms.return_from_provider(browser, name)
    assert (answer.status_code, answer.json()) == (403, "Your account is disabled")


def test_a_forged_state_redirects_to_the_sign_in_page(lms: EmbeddedLms, name: str) -> None:
    with lms.browser() as browser:
        browser.get("/auth/login/mitxpro-oauth2/?auth_entry=login")
        answer = browser.get(f"/auth/complete/mitxpro-oauth2/?state=forged&code=code-{name}")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login")


def test_sign_in_keeps_the_username_and_records_an_identity_verification(
    lms: EmbeddedLms, name: str
) -> None:
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


def test_registration_fails_without_the_oauth_client_for_sign_in_cookies(
    lms: EmbeddedLms, name: str
) -> None:
    rename_client = (
        "from oauth2_provider.models import get_application_model\n"
        "clients = get_application_model().objects.filter(client_id='{}')\n"
        "clients.update(client_id='{}')"
    )
    lms.shell(rename_client.format("login-service-client-id", "gone"))
    try:
        assert lms.register(name).status_code == 500
    finally:
        lms.shell(rename_client.format("gone", "login-service-client-id"))
    log = (lms.folder / "server.log").read_text()
    assert "'login-service-client-id', is not configured" in log


def test_a_provider_hint_redirects_to_the_provider_until_the_record_is_disabled(
    closed_lms: EmbeddedLms,
) -> None:
    with closed_lms.browser() as browser:
        login = browser.get("/login?next=/courses")
        register = browser.get("/register")
        # A new row is a new version of the provider record.
        closed_lms.shell(
            "from usher.embedded.third_party_auth.models import OAuth2ProviderConfig\n"
            "record = OAuth2ProviderConfig.objects.get(); record.pk = None\n"
            "record.enabled = False; record.save()"
        )
        without_hint = browser.get("/login?next=/courses")
    begin = "/auth/login/mitxpro-oauth2/?auth_entry="
    hint = "tpa_hint%3Doa2-mitxpro-oauth2"
    assert login.headers["Location"] == f"{begin}login&next=%2Fcourses%3F{hint}"
    assert register.headers["Location"] == f"{begin}register&next=%2Fdashboard%3F{hint}"
    assert without_hint.headers["Location"] == "http://apps.example/authn/login?next=%2Fcourses"
