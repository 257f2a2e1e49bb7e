"""Pages in a real browser: structure, names, contrast, widths and keyboard, in light and dark
mode."""

import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.campus.conftest import KEY
from tests.support.browser import chromium
from usher.application.runs.models import CourseMode, CourseRun

pytestmark = pytest.mark.django_db(transaction=True)

PATHS_FOR_VISITORS = [
    "/",
    f"/courses/{KEY}/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/nothing/",
    "/oauth2/authorize/?client_id=x",
]
PATHS_FOR_LEARNERS = [
    "/",
    f"/courses/{KEY}/",
    "/dashboard/",
    "/profile/",
    "/accounts/email/",
    "/accounts/password/change/",
]

#: A script for the page. It returns a list of problems, as the next script does.
FIND_PROBLEMS_OF_STRUCTURE = """() => {
  const problems = [];
  const count = (selector) => document.querySelectorAll(selector).length;
  if (!document.documentElement.lang) problems.push("no language");
  if (!document.title.trim().replace(/·.*/, "")) problems.push("no title");
  if (count("h1") !== 1) problems.push(count("h1") + " first headings");
  for (const landmark of ["header", "nav", "main", "footer"])
    if (!count(landmark)) problems.push("no " + landmark);
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!field.labels.length && !field.getAttribute("aria-label"))
      problems.push("no label: " + field.outerHTML);
  for (const control of document.querySelectorAll("a[href], button"))
    if (!control.textContent.trim()) problems.push("no name: " + control.outerHTML);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) problems.push("twice: " + id);
  for (const element of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
    for (const name of ["aria-describedby", "aria-labelledby"])
      for (const id of (element.getAttribute(name) || "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) problems.push(name + " points nowhere: " + id);
  if (document.documentElement.scrollWidth > innerWidth) problems.push("wider than the window");
  return problems;
}"""

#: The least contrast is 4.5, as in WCAG 2.2 AA, whose formulas for luminance and ratio are used.
FIND_TEXTS_WITH_LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const part = (value) => {
      value /= 255;
      return value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
    };
    return .2126 * part(color[0]) + .7152 * part(color[1]) + .0722 * part(color[2]);
  };
  const backgroundOf = (element) => {
    for (; element; element = element.parentElement) {
      const style = getComputedStyle(element);
      if (style.backgroundImage !== "none") return null;
      const color = rgba(style.backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const problems = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest(".hidden, .skip, :disabled")) continue;
    const background = backgroundOf(element);
    if (!background) continue;
    const text = luminance(rgba(getComputedStyle(element).color));
    const behind = luminance(background);
    const ratio = (Math.max(text, behind) + .05) / (Math.min(text, behind) + .05);
    if (ratio < 4.5) problems.push(ratio.toFixed(2) + ": " + walker.currentNode.textContent.trim());
  }
  return problems;
}"""


#: Rules of WCAG 2.2 AA, without axe's "best-practice".
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations"],
}


def find_violations_with_axe(page):
    """Rule and element of each violation that axe finds."""
    violations = Axe().run(page, options=RULES).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in violations]


@pytest.fixture(scope="module")
def chromium_browser():
    """A running Chromium for all tests of the file."""
    # Playwright runs an event loop in this thread, so Django would refuse synchronous calls.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with chromium() as browser:
        yield browser
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site_url(live_server, settings):
    """The address of the application, which has one course run."""
    settings.SITE_BASE_URL = live_server.url
    run = CourseRun.objects.create(
        course_key=KEY,
        title="Demonstration Course with a title that is rather longer than titles tend to be",
        org="edX",
        number="DemoX",
        short_description="What it is about.",
    )
    CourseMode.objects.create(run=run, slug="audit", name="Audit")
    return live_server.url


def cookies_of(client, site_url):
    """The cookies of Django's test client, in the form that Playwright reads."""
    return [
        {"name": name, "value": morsel.value, "url": site_url}
        for name, morsel in client.cookies.items()
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("edition", ["mitxonline", "mitxpro"])
def test_pages_have_a_correct_structure_and_contrast(
    chromium_browser, site_url, client, learner, settings, edition, scheme
):
    settings.EDITION_NAME = edition
    client.force_login(learner)
    client.post(f"/courses/{KEY}/enroll/")
    problems_by_path = {}
    for paths, cookies in (
        (PATHS_FOR_VISITORS, []),
        (PATHS_FOR_LEARNERS, cookies_of(client, site_url)),
    ):
        # 320 pixels: at this width, WCAG 2.2 (1.4.10) allows no scrolling sideways.
        context = chromium_browser.new_context(
            color_scheme=scheme, viewport={"width": 320, "height": 640}
        )
        context.add_cookies(cookies)
        page = context.new_page()
        for path in paths:
            page.goto(site_url + path)
            problems = page.evaluate(FIND_PROBLEMS_OF_STRUCTURE) + page.evaluate(
                FIND_TEXTS_WITH_LOW_CONTRAST
            )
            if problems := problems + find_violations_with_axe(page):
                problems_by_path[path] = problems
        context.close()
    assert problems_by_path == {}


def test_an_invalid_form_shows_errors_at_its_fields(chromium_browser, site_url):
    page = chromium_browser.new_page()
    page.goto(site_url + "/accounts/signup/")
    page.fill("#id_name", "Ada")
    page.fill("#id_username", "bad name!")
    page.fill("#id_email", "ada@learners.example")
    page.fill("#id_password1", "123")
    page.click("main button[type=submit]")
    field = page.locator("#id_username")
    expect(field).to_have_attribute("aria-invalid", "true")
    page.wait_for_load_state()
    assert page.evaluate(FIND_PROBLEMS_OF_STRUCTURE) == []
    ids_of_messages = field.get_attribute("aria-describedby").split()
    text = " ".join(page.locator(f"[id='{id_}']").inner_text() for id_ in ids_of_messages)
    assert "letters" in text.lower()
    page.close()


def test_the_keyboard_skips_to_the_content(chromium_browser, site_url):
    page = chromium_browser.new_page()
    page.goto(site_url + "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.close()


def test_pages_load_nothing_from_other_sites(chromium_browser, site_url, client, learner):
    client.force_login(learner)
    context = chromium_browser.new_context()
    context.add_cookies(cookies_of(client, site_url))
    page = context.new_page()
    requested_urls, console_lines = [], []
    page.on("request", lambda request: requested_urls.append(request.url))
    page.on("console", lambda message: console_lines.append(f"{page.url} {message.text}"))
    for path in PATHS_FOR_LEARNERS:
        page.goto(site_url + path)
    assert [url for url in requested_urls if not url.startswith(site_url)] == []
    violations = [line for line in console_lines if "Security" in line]
    assert violations == [], "the page violates its own Content-Security-Policy"
    context.close()
