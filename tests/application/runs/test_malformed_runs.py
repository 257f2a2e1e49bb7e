"""A list with malformed course runs: only the malformed runs are refused, and all others are
read."""

from __future__ import annotations

from typing import Any

import pytest

from usher.application.runs import sync
from usher.application.runs.models import CourseRun

VALID_KEY = "course-v1:edX+Lying+1"
INVALID_KEYS = [
    "not a key",
    "line\nbreak",
    "course-v1:a+b+c\n",
    "../b/c",
    "../../..",
    "course-v1:..+b+c",
    "course-v1:a+b+c?x=1",
    "javascript:alert(1)",
    "course-v1:a+b+" + "c" * 255,
]


def run_of_list(key: Any, **overrides: Any) -> dict[str, Any]:
    """A course run as in the LMS's list. overrides: fields that replace the defaults."""
    return {"course_id": key, "name": "Lying", "media": {"image": {"large": "/x.png"}}} | overrides


def write_runs(*runs: dict[str, Any]) -> sync.Writer:
    """Writes these runs as a sync of all runs does. The writer's summary has the failures."""
    writer = sync.Writer(sync.known_runs())
    writer.compare(runs)
    writer.flush()
    return writer


def test_only_the_runs_with_an_invalid_key_fail(db: None, client: Any) -> None:
    writer = write_runs(*[run_of_list(key) for key in INVALID_KEYS], run_of_list(VALID_KEY))
    assert list(CourseRun.objects.values_list("course_key", flat=True)) == [VALID_KEY]
    assert len(writer.summary.failures) == len(INVALID_KEYS)
    assert client.get("/").status_code == 200  # the catalog


def test_only_the_run_that_is_nested_too_deeply_fails(db: None) -> None:
    nested_name: Any = "x"
    for _ in range(3000):
        nested_name = [nested_name]
    writer = write_runs(
        run_of_list("course-v1:edX+Deep+1", name=nested_name), run_of_list(VALID_KEY)
    )
    assert list(CourseRun.objects.values_list("course_key", flat=True)) == [VALID_KEY]
    assert len(writer.summary.failures) == 1


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", " http://x"])
def test_an_image_address_that_is_not_http_is_left_out(db: None, address: str) -> None:
    write_runs(run_of_list(VALID_KEY, media={"image": {"large": address}}))
    assert CourseRun.objects.get().image_url == ""
