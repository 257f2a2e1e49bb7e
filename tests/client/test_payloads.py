"""The client reads any answer as a typed value that the database can store, or raises an error."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher.client import payloads
from usher.client.errors import BadAnswer, LmsError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6)
    ),
    max_leaves=12,
)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
GOOD: dict[str, tuple[Any, Any]] = {
    "account": (
        payloads.read_account,
        {"username": "ada", "email": "a@b.co", "name": "Ada", "country": "FR", "id": 5,
         "is_active": True, "date_joined": "2026-01-01T00:00:00Z"},
    ),
    "run": (
        payloads.read_run,
        {"course_id": "course-v1:A+B+C", "name": "Title", "org": "A", "number": "B",
         "start": "2026-01-01T00:00:00Z", "media": {"image": {"large": "http://x/y"}}},
    ),
    "enrollment": (payloads.read_enrollment, {"mode": "audit", "is_active": True}),
    "tokens": (
        lambda data: payloads.read_tokens(data, NOW),
        {"access_token": "a", "refresh_token": "r", "scope": "read", "expires_in": 3600},
    ),
    "page": (
        payloads.read_page,
        {"results": [], "pagination": {"num_pages": 1, "count": 0}},
    ),
}  # fmt: skip
LISTS: dict[str, tuple[Any, Any]] = {
    "modes": (
        payloads.read_modes,
        {"mode_slug": "audit", "mode_display_name": "Audit", "min_price": 0, "currency": "usd"},
    ),
    "certificates": (
        payloads.read_certificates,
        {"course_id": "course-v1:A+B+C", "status": "downloadable", "grade": "0.9"},
    ),
    "grade": (payloads.read_grade, {"percent": 0.5, "passed": True, "letter_grade": "B"}),
}


def texts_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts_of(each)]
    return (
        [text for each in vars(value).values() for text in texts_of(each)]
        if hasattr(value, "__dict__")
        else []
    )


def assert_kept(value: Any) -> None:
    """Asserts that the database can store every text in ``value``: valid Unicode without NUL."""
    for text in texts_of(value):
        text.encode()
        assert "\0" not in text


@pytest.mark.parametrize("what", GOOD)
@given(data=JSON)
def test_any_json_is_read_or_refused(what: str, data: Any) -> None:
    read, _ = GOOD[what]
    with suppress(LmsError):
        assert_kept(read(data))


@pytest.mark.parametrize("what", [*GOOD, *LISTS])
@given(data=st.data())
def test_one_wrong_field_is_an_error_of_ours(what: str, data: st.DataObject) -> None:
    read, good = (GOOD | LISTS)[what]
    field = data.draw(st.sampled_from(sorted(good)))
    broken = {**good, field: data.draw(JSON)}
    with suppress(LmsError):
        assert_kept(read([broken] if what in LISTS else broken))


@pytest.mark.parametrize("what", [*GOOD, *LISTS])
def test_a_good_answer_is_read(what: str) -> None:
    read, good = (GOOD | LISTS)[what]
    assert read([good] if what in LISTS else good) is not None


@pytest.mark.parametrize(
    ("what", "field", "value"),
    [
        ("run", "name", "NUL \0 in a title"),
        ("run", "name", "half a pair \ud800"),
        ("run", "course_id", "x" * 256),
        ("account", "id", "abc"),
        ("account", "id", -1),
        ("account", "id", 2**70),
        ("enrollment", "mode", "\0"),
        ("tokens", "expires_in", 2**40),
    ],
)
def test_a_value_that_can_t_be_kept_is_refused_with_its_reason(
    what: str, field: str, value: Any
) -> None:
    read, good = GOOD[what]
    with pytest.raises(payloads.BadValue, match="can't be stored"):
        read({**good, field: value})


def test_a_wrong_token_is_never_shown() -> None:
    with pytest.raises(payloads.BadValue) as caught:
        payloads.read_tokens({"access_token": "secret\0secret", "expires_in": 1}, NOW)
    assert "secret" not in str(caught.value)


def test_more_pages_than_any_lms_has() -> None:
    with pytest.raises(BadAnswer):
        payloads.read_page({"results": [], "pagination": {"num_pages": 3_000_000, "count": 1}})
