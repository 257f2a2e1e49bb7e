"""The main journey in a real browser: from sign-up in the application to a course in the LMS."""

import re

from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.people import Person, open_dashboard_until, wait_until_account_is_ready
from usher.cli.demo.learner_journey import DEMO_RUN
from usher.cli.demo.pair import Pair
from usher.contract.paths import in_path


def lms_dashboard(pair: Pair) -> re.Pattern[str]:
    """The address of the LMS's dashboard, to which the platform may add its provider hint."""
    return re.compile(re.escape(f"{pair.lms_url}/dashboard") + r"(\?tpa_hint=[\w-]+)?$")


def test_a_learner_reaches_the_lms_dashboard_after_sign_up_without_a_second_form(
    page: Page, pair: Pair
) -> None:
    person = Person()
    person.sign_up(page, pair)
    wait_until_account_is_ready(page, pair)
    page.goto(f"{pair.lms_url}/login?next=/dashboard")
    expect(page).to_have_url(lms_dashboard(pair))
    expect(page.locator("body")).to_contain_text(person.username)


def test_a_learner_who_opens_the_lms_first_is_redirected_to_the_application(
    page: Page, pair: Pair
) -> None:
    person = Person()
    person.sign_up(page, pair)
    page.context.clear_cookies()
    page.goto(f"{pair.lms_url}/dashboard")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url.startswith(pair.application_url)
    page.get_by_label("Password").fill(person.password)
    page.locator("[name=login]").fill(person.email)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(lms_dashboard(pair))
    expect(page.locator("body")).to_contain_text(person.username)


def test_a_learner_enrolls_in_a_run_opens_it_and_leaves_it(page: Page, pair: Pair) -> None:
    pair.manage_application("sync_courserun", "--run", DEMO_RUN)
    Person().sign_up(page, pair)
    page.goto(pair.application_url)
    page.get_by_role("link", name="Demonstration Course").click()
    page.get_by_role("button", name="Enroll for free").click()
    expect(page.get_by_text("You are enrolled in")).to_be_visible()
    open_dashboard_until(page, pair, page.get_by_text("Enrolled", exact=True).is_visible)
    page.get_by_role("link", name="Open Demonstration Course").click()
    expect(page).to_have_url(f"{pair.lms_url}/courses/{DEMO_RUN}/course/")
    expect(page.get_by_role("heading", name="Demonstration Course").first).to_be_visible()

    page.goto(f"{pair.application_url}/courses/{in_path(DEMO_RUN)}/")
    page.get_by_text("Leave this course").click()
    page.get_by_role("button", name="Leave Demonstration Course").click()
    expect(page.get_by_text("You have left")).to_be_visible()


def test_signing_out_of_the_application_ends_both_sessions(page: Page, pair: Pair) -> None:
    Person().sign_up(page, pair)
    wait_until_account_is_ready(page, pair)
    page.goto(f"{pair.lms_url}/login")
    expect(page).to_have_url(lms_dashboard(pair))
    page.goto(f"{pair.application_url}/dashboard/")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{pair.application_url}/")  # the browser came back from the LMS
    page.goto(f"{pair.application_url}/dashboard/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{pair.lms_url}/dashboard")
    assert not page.url.startswith(f"{pair.lms_url}/dashboard")


def test_signing_out_of_the_lms_ends_both_sessions(page: Page, pair: Pair) -> None:
    """The LMS's server tells the application's server, which ends its session. The platform's own
    way, hidden frames, can't work here: the application and the LMS are different sites, so the
    browser sends no cookies with the frames' requests."""
    Person().sign_up(page, pair)
    wait_until_account_is_ready(page, pair)
    page.goto(f"{pair.lms_url}/login")
    expect(page).to_have_url(lms_dashboard(pair))
    page.goto(f"{pair.lms_url}/logout")
    expect(page).not_to_have_url(f"{pair.lms_url}/logout")
    open_dashboard_until(page, pair, lambda: "/accounts/login/" in page.url)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_two_learners_sign_in_at_the_same_time_in_two_windows(
    page: Page, context: BrowserContext, pair: Pair
) -> None:
    """Each window has its own learner, in the application and in the LMS."""
    browser = context.browser
    assert browser
    other_window = browser.new_context()
    try:
        first, second = Person(), Person()
        other_page = other_window.new_page()
        first.sign_up(page, pair)
        second.sign_up(other_page, pair)
        for tab in (page, other_page):
            wait_until_account_is_ready(tab, pair)
            tab.goto(f"{pair.lms_url}/login")
        expect(page.locator("body")).to_contain_text(first.username)
        expect(other_page.locator("body")).to_contain_text(second.username)
    finally:
        other_window.close()
