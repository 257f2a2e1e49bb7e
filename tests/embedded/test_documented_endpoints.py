"""Every endpoint in docs/endpoints.md exists."""

import re
from pathlib import Path

import pytest

from tests.support.embedded import EmbeddedLms

PAGE = Path(__file__).parents[2] / "docs/endpoints.md"
ROW = re.compile(r"^\| ([A-Z, ]+) \| (`.+?`) \| .+ \| (\w+) \|$", re.MULTILINE)
#: Placeholder in a path of the page → a value for which the embedded LMS has a record.
EXAMPLES = {
    "COURSE": "course-v1%3AedX%2BDemoX%2BDemo_Course",
    "USERNAME": "mit_Application_serviceworker",
    "MODE": "audit",
    "BACKEND": "mitxpro-oauth2",
}
#: Method, path and state of each endpoint. The state says how the endpoint's answers are known:
#: recorded from a real LMS, or from the platform's source.
CALLS = [
    (method, path, state)
    for methods, paths, state in ROW.findall(PAGE.read_text())
    for method in methods.split(", ")
    for path in re.findall(r"`(.+?)`", paths)
]


def test_the_page_lists_endpoints():
    assert len(CALLS) > 25  # the pattern ``ROW`` still matches the table
    assert {state for *_, state in CALLS} == {"recorded", "source"}


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, _ in CALLS], ids=lambda value: value
)
def test_a_documented_endpoint_exists(lms: EmbeddedLms, method: str, path: str):
    for placeholder, value in EXAMPLES.items():
        path = path.replace(placeholder, value)
    with lms.api("no-such-token") as api:
        # The request changes nothing: its token is unknown and its body empty.
        status = api.request(method, path, headers={"Content-Type": "application/json"}).status_code
    assert status not in (404, 405)
