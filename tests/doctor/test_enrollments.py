"""Enrollments are compared with all of the learners' enrollments in the LMS."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from usher.doctor.checks.enr import read_lms_enrollments
from usher.doctor.facts.memo import NotKnownError


def context_of_lms(*pages: list[dict[str, Any]], is_endless: bool = False) -> Any:
    """A context whose LMS returns ann's enrollments page by page. is_endless: the last page names
    a next page, too."""

    def get(path: str, *, token: str) -> httpx.Response:
        number = int(parse_qs(urlsplit(path).query).get("page", ["0"])[0])
        is_last = number == len(pages) - 1
        has_next = is_endless or not is_last
        next_number = number if is_last else number + 1
        address = f"http://lms.internal/api/enrollment/v1/enrollments?page={next_number}"
        body = {"results": pages[number], "next": address if has_next else None}
        return httpx.Response(200, json=body)

    return SimpleNamespace(token="token", lms=SimpleNamespace(get=get))


def enrollment(course_key: str) -> dict[str, Any]:
    return {"user": "ann", "course_id": course_key, "mode": "audit", "is_active": True}


def test_enrollments_on_later_pages_are_read() -> None:
    context = context_of_lms([enrollment("new")], [enrollment("older")], [enrollment("oldest")])
    assert set(read_lms_enrollments(context, {"ann"})) == {
        ("ann", "new"),
        ("ann", "older"),
        ("ann", "oldest"),
    }


def test_endless_pages_are_not_compared() -> None:
    context = context_of_lms([enrollment("new")], is_endless=True)
    with pytest.raises(NotKnownError, match="too many"):
        read_lms_enrollments(context, {"ann"})
