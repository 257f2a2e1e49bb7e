"""A list with malformed course runs: only the malformed runs are refused, and all others are
read."""

from __future__ import annotations

from typing import Any

import pytest

from usher.application.runs import sync
from usher.application.runs.models import CourseRun

GOOD = "course-v1:edX+Lying+1"
NO_KEYS = [
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


def described(key: Any, **more: Any) -> dict[str, Any]:
    return {"course_id": key, "name": "Lying", "media": {"image": {"large": "/x.png"}}} | more


def writer_after(*found: dict[str, Any]) -> sync.Writer:
    writer = sync.Writer(sync.known_runs())
    writer.take(found)
    writer.flush()
    return writer


def test_an_invalid_course_key_is_refused_alone(db: None, client: Any) -> None:
    writer = writer_after(*[described(key) for key in NO_KEYS], described(GOOD))
    assert list(CourseRun.objects.values_list("course_key", flat=True)) == [GOOD]
    assert len(writer.summary.failures) == len(NO_KEYS)
    assert client.get("/").status_code == 200


def test_a_run_that_is_nested_too_deeply_is_refused_alone(db: None) -> None:
    deep: Any = "x"
    for _ in range(3000):
        deep = [deep]
    writer = writer_after(described("course-v1:edX+Deep+1", name=deep), described(GOOD))
    assert list(CourseRun.objects.values_list("course_key", flat=True)) == [GOOD]
    assert len(writer.summary.failures) == 1


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", " http://x"])
def test_an_image_of_another_scheme_is_left_out(db: None, address: str) -> None:
    writer_after(described(GOOD, media={"image": {"large": address}}))
    assert CourseRun.objects.get().image_url == ""
