"""Sign-in in a real browser, through an application that shows no page of its own."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.embedded import EmbeddedLms

START = "/auth/login/mitxpro-oauth2/?auth_entry=login"


class AuthorizePage(BaseHTTPRequestHandler):
    """The application's authorize page. It shows nothing, and redirects back to the LMS as the
    learner ``username``."""

    username = ""

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        # The redirect URI has a query already, because python-social-auth adds redirect_state.
        redirect = f"{query['redirect_uri']}&state={query['state']}&code=code-{type(self).username}"
        self.send_response(302)
        self.send_header("Location", redirect)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that reaches ``AuthorizePage`` at the application's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), AuthorizePage)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    rule = f"MAP app.example:8013 127.0.0.1:{server.server_address[1]}"
    try:
        with chromium(f"--host-resolver-rules={rule}") as running:
            yield running
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_an_unknown_learner_is_signed_in_without_a_form(
    lms: EmbeddedLms, page: Page, name: str
) -> None:
    AuthorizePage.username = name
    page.goto(lms.url + START)
    page.wait_for_url("**/dashboard")
    expect(page.get_by_role("heading", name="My Courses")).to_be_visible()
    expect(page.get_by_role("link", name=name)).to_be_visible()


def test_a_learner_whose_username_is_taken_reads_why_and_can_link_with_the_password(
    lms: EmbeddedLms, page: Page, name: str
) -> None:
    lms.shell(
        "from usher.embedded.home.seeds import create_person\n"
        f"create_person({name!r}, '{name}@elsewhere.example', 'A password 1')"
    )
    AuthorizePage.username = name
    page.goto(lms.url + START)
    expect(page.get_by_role("alert").first).to_contain_text("You are not signed in yet")
    page.get_by_label("Username or e-mail").fill(name)
    page.get_by_label("Password").fill("A password 1")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard")
    script = (
        "from social_django.models import UserSocialAuth\n"
        f"user = UserSocialAuth.objects.get(uid={name!r}).user\n"
        "print(user.username, user.email)"
    )
    # The provider record makes the LMS take the e-mail address from the provider.
    assert lms.shell(script) == f"{name} {name}@learners.example"


def test_signing_out_redirects_to_the_next_page(lms: EmbeddedLms, page: Page, name: str) -> None:
    # Without ``next`` that is ``/``, which redirects visitors to the courses.
    AuthorizePage.username = name
    page.goto(lms.url + START)
    page.wait_for_url("**/dashboard")
    page.get_by_role("link", name="Sign out").click()
    page.wait_for_url("**/courses")
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
