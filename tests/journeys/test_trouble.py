"""Learners whose names, addresses or LMS cause trouble: nobody gets another person's account,
nothing is lost, and a page says what happened."""

import re
import time
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.journeys.people import Person, open_dashboard_until, wait_until_account_is_ready
from usher.cli.demo.pair import Pair
from usher.contract.paths import ApplicationPath, LmsPath

pytestmark = pytest.mark.parametrize("pair", ["mitxonline"], indirect=True)

#: A script for the LMS: creates an account that the application knows nothing of.
MAKE_LMS_USER = """
from django.contrib.auth.models import User
from usher.embedded.student.models import UserProfile
user = User.objects.create_user("{username}", "{email}", "somebody-elses-password")
UserProfile.objects.create(user=user, name="Somebody Else")
"""
#: A script for the application.
DELETE_USER = """
from django.contrib.auth import get_user_model
get_user_model().objects.get(username="{username}").delete()
"""


def make_lms_user(pair: Pair, username: str, email: str) -> None:
    pair.manage_lms("shell", stdin=MAKE_LMS_USER.format(username=username, email=email))


def lms_accounts(pair: Pair, email: str) -> list[dict[str, object]]:
    """The LMS accounts with this address; none while the LMS answers with an error."""
    answer = httpx.get(
        pair.lms_url + LmsPath.ACCOUNTS,
        params={"email": email},
        headers={"Authorization": f"Bearer {pair.credentials.service_worker_token}"},
        trust_env=False,
    )
    return list(answer.json()) if answer.status_code == 200 else []


def wait_for_lms_account(pair: Pair, email: str, seconds: float = 180) -> str:
    """Waits until the LMS has an account with this address. Returns its username."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if accounts := lms_accounts(pair, email):
            return str(accounts[0]["username"])
        time.sleep(0.2)
    raise AssertionError(f"no LMS account for {email} within {seconds} seconds")


def test_a_learner_gets_another_lms_username_if_the_lms_has_the_learners_username(
    page: Page, pair: Pair
) -> None:
    person = Person()
    make_lms_user(pair, person.username, "somebody.else@example.org")
    person.sign_up(page, pair)
    wait_until_account_is_ready(page, pair)
    lms_username = wait_for_lms_account(pair, person.email)
    assert lms_username != person.username
    page.goto(f"{pair.lms_url}/login")
    expect(page.locator("body")).to_contain_text(lms_username)


def test_an_lms_account_with_the_address_of_a_new_learner_is_reported_and_never_linked(
    page: Page, pair: Pair
) -> None:
    person = Person()
    make_lms_user(pair, "earlier-owner", person.email)
    person.sign_up(page, pair)
    expect(page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    notice = page.get_by_text("an account with your e-mail address already exists")
    open_dashboard_until(page, pair, notice.is_visible)
    page.goto(f"{pair.lms_url}/login")
    reason = page.get_by_role("heading", name=re.compile("This account already exists on"))
    expect(reason).to_be_visible()
    assert [account["username"] for account in lms_accounts(pair, person.email)] == [
        "earlier-owner"
    ]


def test_the_name_of_a_deleted_learner_is_refused_for_ever(page: Page, pair: Pair) -> None:
    first = Person()
    first.sign_up(page, pair)
    wait_until_account_is_ready(page, pair)
    wait_for_lms_account(pair, first.email)
    pair.manage_application("shell", stdin=DELETE_USER.format(username=first.username))
    page.context.clear_cookies()
    for name in (first.username, first.username.upper()):
        attacker = Person(username=name, email=f"attacker.{name}@example.org")
        attacker.submit_sign_up_form(page, pair)
        expect(page.get_by_text(re.compile("already exists|taken", re.IGNORECASE))).to_be_visible()


def test_a_learner_who_signs_up_while_the_lms_is_down_gets_an_lms_account_later(
    page: Page, pair: Pair
) -> None:
    lms = pair.server("lms")
    lms.stop()
    try:
        person = Person()
        person.sign_up(page, pair)
        expect(page.get_by_text("Your Open edX account is being created")).to_be_visible()
    finally:
        lms.start()
        lms.wait_until_ready()
    wait_for_lms_account(pair, person.email)
    wait_until_account_is_ready(page, pair)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_redirected_to_a_foreign_site(pair: Pair, target: str) -> None:
    with httpx.Client(trust_env=False) as client:
        quoted = quote(target, safe="")
        urls = [
            f"{pair.application_url}{ApplicationPath.LOGOUT}?next={quoted}",
            f"{pair.application_url}/accounts/login/?next={quoted}",
            *(f"{pair.application_url}{path}?next={quoted}" for path in ApplicationPath.LANDINGS),
            f"{pair.lms_url}/logout?redirect_url={quoted}",
            f"{pair.lms_url}/login?next={quoted}",
        ]
        for url in urls:
            answer = client.get(url)
            assert answer.status_code < 500, url
            location = answer.headers.get("Location", "")
            assert not re.match(r"(https?:)?[/\\]{2}evil|javascript:", location), (url, location)


def test_authorize_refuses_a_redirect_uri_that_is_not_registered(page: Page, pair: Pair) -> None:
    person = Person()
    person.sign_up(page, pair)
    query = f"client_id={pair.credentials.lms_client_id}&response_type=code&scope=user:read"
    for uri in (
        "https://evil.example/",
        f"{pair.lms_url}/auth/complete/mitxpro-oauth2/../../../logout",
        f"{pair.lms_url}.evil.example/auth/complete/mitxpro-oauth2/",
    ):
        answer = page.goto(
            f"{pair.application_url}{ApplicationPath.AUTHORIZE}?{query}"
            f"&redirect_uri={quote(uri, safe='')}"
        )
        assert answer
        assert answer.status == 400
        assert page.url.startswith(pair.application_url)
