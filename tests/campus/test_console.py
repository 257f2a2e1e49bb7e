"""The console's pages in a real browser: structure, contrast and widths in light and dark mode, and
live updates."""

import pytest
from django.core.cache import cache
from django.utils import timezone
from playwright.sync_api import expect

from tests.campus.test_accessibility import (
    FIND_PROBLEMS_OF_STRUCTURE,
    FIND_TEXTS_WITH_LOW_CONTRAST,
    chromium_browser,
    cookies_of,
    find_violations_with_axe,
)
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun
from usher.console.models import Attempt, DoctorRun, Worker

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["chromium_browser"]
#: Milliseconds in which the overview refreshes itself several times.
A_MINUTE = 60_000
LONG_COURSE_KEY = "course-v1:" + "AVeryLongOrganisation" * 4 + "+Number+2026"
GROUP_PATH = "/staff/refusals/group/?kind=enrollment&code=mode-not-offered"


@pytest.fixture
def paths(live_server, settings, learner):
    """The console's pages, with records of long texts."""
    settings.SITE_BASE_URL = live_server.url
    now = timezone.now()
    run = CourseRun.objects.create(course_key=LONG_COURSE_KEY, title="A" * 80, start=now)
    row = Enrollment.objects.create(
        user=learner,
        run=run,
        refused_at=now,
        error_code="mode-not-offered",
        error_message="x" * 200,
        observed_mode="honor",
        observed_is_active=True,
    )
    Attempt.objects.create(kind="enrollment", row_id=row.pk, code="x", message="y" * 200)
    report = {"circuits": {"host": 5.0}, "throttled": {"courses": 9.0}, "lms": {"failed_at": 9.0}}
    Worker.objects.create(name="h" * 100, role="Celery worker", seen_at=now, report=report)
    checks = [
        {"id": f"NET-{status}", "title": "t", "status": status, "seen": "s" * 90, "fix": "f" * 90}
        for status in ("failed", "warning", "skipped", "note", "ok")
    ]
    DoctorRun.objects.create(report={"counts": {"failed": 1}, "checks": checks, "next": "n"})
    return [
        "/staff/?refresh=off",
        "/staff/refusals/",
        GROUP_PATH,
        "/staff/learners/",
        "/staff/learners/?q=nobody",
        f"/staff/learners/{learner.pk}/",
        "/staff/runs/",
        f"/staff/runs/{run.pk}/",
        "/staff/doctor/",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_the_console_have_a_correct_structure_and_contrast(
    chromium_browser, live_server, admin_client, paths, settings, scheme
):
    problems_by_page = {}
    for edition, width in (("mitxonline", 320), ("mitxpro", 1280)):
        settings.USHER_EDITION = edition
        window = chromium_browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 700}
        )
        window.add_cookies(cookies_of(admin_client, live_server.url))
        page = window.new_page()
        console_lines = []
        page.on("console", lambda message, lines=console_lines: lines.append(message.text))
        for path in paths:
            page.goto(live_server.url + path)
            problems = [
                *page.evaluate(FIND_PROBLEMS_OF_STRUCTURE),
                *page.evaluate(FIND_TEXTS_WITH_LOW_CONTRAST),
                *find_violations_with_axe(page),
                *console_lines,
            ]
            if problems:
                problems_by_page[f"{path} {width}"] = problems
        window.close()
    assert problems_by_page == {}


def test_the_overview_refreshes_itself_until_staff_turn_it_off(
    chromium_browser, live_server, admin_client, paths
):
    window = chromium_browser.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    console_lines = []
    page.on("console", lambda message: console_lines.append(message.text))
    page.goto(live_server.url + "/staff/")
    Enrollment.objects.all().delete()
    cache.clear()  # the overview is cached for some seconds
    with page.expect_response(lambda response: response.url.endswith("/staff/"), timeout=A_MINUTE):
        pass
    page.wait_for_function(
        "!document.querySelector('.kinds').textContent.includes('Enrollments')", timeout=A_MINUTE
    )
    assert console_lines == [], "the page violates its own Content-Security-Policy"
    page.click("text=Stop refreshing")
    expect(page.locator("[hx-get], script")).to_have_count(0)
    window.close()


def test_a_refresh_keeps_focus_position_and_selection(
    chromium_browser, live_server, admin_client, paths
):
    window = chromium_browser.new_context(viewport={"width": 1000, "height": 400})
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + "/staff/")
    # A refresh replaces the marked element by an element without the mark.
    mark = "() => document.getElementById('live').classList.add('seen')"
    is_refreshed = "() => !document.querySelector('#live.seen')"
    id_of_focused = "() => document.activeElement.id"

    page.locator("#refreshing").focus()
    page.evaluate(mark)
    page.wait_for_function(is_refreshed, timeout=A_MINUTE)
    assert page.evaluate(id_of_focused) == "refreshing"
    assert page.evaluate("() => window.scrollY") > 0

    # While text is selected, each refresh is cancelled, so that people can copy the text.
    page.evaluate("() => getSelection().selectAllChildren(document.getElementById('workers'))")
    page.evaluate(mark)
    page.evaluate(
        "() => document.addEventListener('htmx:beforeRequest', () => window.isRequested = true)"
    )
    page.wait_for_function("() => window.isRequested", timeout=A_MINUTE)
    assert page.evaluate("() => String(getSelection())") == "Workers"
    page.evaluate("() => getSelection().removeAllRanges()")
    page.wait_for_function(is_refreshed, timeout=A_MINUTE)
    # htmx replaces links and buttons by their ids, so each of them must have an id.
    without_id = "() => document.querySelectorAll('#live :is(a, button, input):not([id])').length"
    assert page.evaluate(without_id) == 0
    window.close()


def test_the_overview_shows_an_alert_while_it_cannot_be_refreshed_and_leads_to_sign_in(
    chromium_browser, live_server, admin_client, paths
):
    window = chromium_browser.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + "/staff/")
    alert = page.get_by_role("alert")
    expect(alert).to_have_count(0)
    window.route("**/staff/", lambda route: route.abort())
    expect(alert).to_contain_text("could not be refreshed")
    window.unroute("**/staff/")
    expect(alert).to_have_count(0)

    # After the end of the session, the refresh redirects to the sign-in page.
    window.clear_cookies()
    page.wait_for_url("**/accounts/login/?next=/staff/", timeout=A_MINUTE)
    window.close()


def test_enter_in_the_form_of_a_group_retries_no_record(
    chromium_browser, live_server, admin_client, paths
):
    window = chromium_browser.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + GROUP_PATH)
    # Enter presses the first button of a form: a hidden one that does nothing.
    expect(page.get_by_text("Do nothing")).to_be_hidden()
    requested_urls = []
    page.on("request", lambda request: requested_urls.append(request.url))
    checkbox = page.get_by_role("checkbox")
    checkbox.press("Space")
    checkbox.press("Enter")
    expect(checkbox).to_be_checked()
    page.locator("summary").press("Enter")
    note = page.get_by_label("Why")
    note.fill("next term")
    note.press("Enter")
    assert requested_urls == []
    assert Enrollment.objects.get().refused_at is not None
    expect(note).to_have_value("next term")

    # The button itself sends the form, once a note is given.
    note.fill("")
    page.get_by_role("button", name="Ignore selected").press("Enter")
    expect(note).to_be_focused()
    note.fill("next term")
    page.get_by_role("button", name="Ignore selected").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("1 ignored")
    window.close()
