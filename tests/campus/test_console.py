"""The console's pages in a real browser: structure, contrast and widths in light and dark mode, and
live updates."""

import pytest
from django.core.cache import cache
from django.utils import timezone
from playwright.sync_api import expect

from tests.campus.test_accessibility import (
    CONTRAST,
    STRUCTURE,
    cookies_of,
    screen,
    violations_of_axe,
)
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun
from usher.console.models import Attempt, DoctorRun, Worker

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["screen"]
LONG = "course-v1:" + "AVeryLongOrganisation" * 4 + "+Number+2026"


@pytest.fixture
def addresses(live_server, settings, learner):
    settings.SITE_BASE_URL = live_server.url
    now = timezone.now()
    run = CourseRun.objects.create(course_key=LONG, title="A" * 80, start=now)
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
        "/staff/refusals/group/?kind=enrollment&code=mode-not-offered",
        "/staff/learners/",
        "/staff/learners/?q=nobody",
        f"/staff/learners/{learner.pk}/",
        "/staff/runs/",
        f"/staff/runs/{run.pk}/",
        "/staff/doctor/",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_the_console_are_accessible(
    screen, live_server, admin_client, addresses, settings, scheme
):
    problems_by_page = {}
    for edition, width in (("mitxonline", 320), ("mitxpro", 1280)):
        settings.USHER_EDITION = edition
        window = screen.new_context(color_scheme=scheme, viewport={"width": width, "height": 700})
        window.add_cookies(cookies_of(admin_client, live_server.url))
        page = window.new_page()
        complaints = []
        page.on("console", lambda message, into=complaints: into.append(message.text))
        for address in addresses:
            page.goto(live_server.url + address)
            problems = page.evaluate(STRUCTURE) + page.evaluate(CONTRAST) + complaints
            problems += violations_of_axe(page)
            if problems:
                problems_by_page[f"{address} {width}"] = problems
        window.close()
    assert problems_by_page == {}


def test_the_overview_refreshes_itself_until_that_is_turned_off(
    screen, live_server, admin_client, addresses
):
    window = screen.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(live_server.url + "/staff/")
    Enrollment.objects.all().delete()
    cache.clear()
    with page.expect_response(lambda response: response.url.endswith("/staff/"), timeout=60_000):
        pass
    page.wait_for_function(
        "!document.querySelector('.kinds').textContent.includes('Enrollments')", timeout=60_000
    )
    assert refused == [], "it keeps to the page's own policy"
    page.click("text=Stop refreshing")
    expect(page.locator("[hx-get], script")).to_have_count(0)
    window.close()


def test_a_refresh_keeps_focus_position_and_selection(screen, live_server, admin_client, addresses):
    window = screen.new_context(viewport={"width": 1000, "height": 400})
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + "/staff/")
    refreshed = "() => !document.querySelector('#live.seen')"
    mark = "() => document.getElementById('live').classList.add('seen')"
    focused = "() => document.activeElement.id"

    page.locator("#refreshing").focus()
    page.evaluate(mark)
    page.wait_for_function(refreshed, timeout=60_000)
    assert page.evaluate(focused) == "refreshing"
    assert page.evaluate("() => window.scrollY") > 0

    page.evaluate("() => getSelection().selectAllChildren(document.getElementById('workers'))")
    page.evaluate(mark)
    page.evaluate(
        "() => document.addEventListener('htmx:beforeRequest', () => window.asked = true)"
    )
    page.wait_for_function("() => window.asked", timeout=60_000)
    assert page.evaluate("() => String(getSelection())") == "Workers"
    page.evaluate("() => getSelection().removeAllRanges()")
    page.wait_for_function(refreshed, timeout=60_000)
    # htmx replaces links and buttons by their ids, so each of them must have an id.
    nameless = "() => document.querySelectorAll('#live :is(a, button, input):not([id])').length"
    assert page.evaluate(nameless) == 0
    window.close()


def test_an_overview_that_is_not_refreshed_says_so(screen, live_server, admin_client, addresses):
    window = screen.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + "/staff/")
    stale = page.get_by_role("alert")
    expect(stale).to_have_count(0)
    window.route("**/staff/", lambda route: route.abort())
    expect(stale).to_contain_text("could not be refreshed")
    window.unroute("**/staff/")
    expect(stale).to_have_count(0)

    window.clear_cookies()
    page.wait_for_url("**/accounts/login/?next=/staff/", timeout=60_000)
    window.close()


def test_enter_does_not_retry(screen, live_server, admin_client, addresses):
    window = screen.new_context()
    window.add_cookies(cookies_of(admin_client, live_server.url))
    page = window.new_page()
    page.goto(live_server.url + addresses[2])
    expect(page.get_by_text("Do nothing")).to_be_hidden()
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    box = page.get_by_role("checkbox")
    box.press("Space")
    box.press("Enter")
    expect(box).to_be_checked()
    page.locator("summary").press("Enter")
    note = page.get_by_label("Why")
    note.fill("next term")
    note.press("Enter")
    assert sent == []
    assert Enrollment.objects.get().refused_at is not None
    expect(note).to_have_value("next term")

    note.fill("")
    page.get_by_role("button", name="Ignore selected").press("Enter")
    expect(note).to_be_focused()
    note.fill("next term")
    page.get_by_role("button", name="Ignore selected").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("1 ignored")
    window.close()
