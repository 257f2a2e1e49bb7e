"""A person's actions in the browser. Fields and buttons are found by their labels."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Page, expect

from usher.cli.demo.learner_journey import CODE_IN_MAIL
from usher.cli.demo.pair import Pair

#: Together a minute, without the time in which the pages load.
_MAX_TRIES = 300
_MILLISECONDS_BETWEEN_TRIES = 200


def _new_username() -> str:
    return f"ada-{secrets.token_hex(4)}"


@dataclass
class Person:
    """A person who signs up, with the values for the form."""

    username: str = field(default_factory=_new_username)
    email: str = ""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def __post_init__(self) -> None:
        self.email = self.email or f"{self.username}@learners.example"

    def sign_up(self, page: Page, pair: Pair) -> None:
        """Signs up and confirms the e-mail address with the code that was mailed."""
        self.submit_sign_up_form(page, pair)
        expect(page.get_by_label("Code")).to_be_visible()
        code = re.search(CODE_IN_MAIL, pair.newest_mail(self.email), re.MULTILINE)
        assert code, "no code was mailed"
        page.get_by_label("Code").fill(code[1])
        page.get_by_role("button", name=re.compile("Confirm|Verify", re.IGNORECASE)).click()
        expect(page.get_by_role("heading", name="Hello, Ada")).to_be_visible()

    def submit_sign_up_form(self, page: Page, pair: Pair) -> None:
        page.goto(pair.application_url)
        page.get_by_role("link", name="Sign up", exact=True).click()
        page.get_by_label("Full name").fill("Ada Lovelace")
        page.get_by_label("Username").fill(self.username)
        page.get_by_label("Email").fill(self.email)
        page.get_by_label("Password").fill(self.password)
        page.get_by_role("button", name="Sign up").click()


def open_dashboard_until(page: Page, pair: Pair, is_reached: Callable[[], bool]) -> None:
    """Opens the application's dashboard again and again until ``is_reached`` returns True. Raises
    AssertionError after a minute or more."""
    for _ in range(_MAX_TRIES):
        page.goto(f"{pair.application_url}/dashboard/")
        if is_reached():
            return
        page.wait_for_timeout(_MILLISECONDS_BETWEEN_TRIES)
    raise AssertionError(f"after a minute the page is still:\n{page.inner_text('body')}")


def wait_until_account_is_ready(page: Page, pair: Pair) -> None:
    """Opens the dashboard until it no longer says that the LMS account is being created."""
    notice = page.get_by_text("Your Open edX account is being created")
    open_dashboard_until(page, pair, lambda: not notice.is_visible())
