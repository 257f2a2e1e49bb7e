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
#: Name of an object → the function that reads it, and a correct answer.
CORRECT_OBJECTS: dict[str, tuple[Any, Any]] = {
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
#: Name of an object that comes in a list → the function that reads the list, and a correct item.
CORRECT_ITEMS: dict[str, tuple[Any, Any]] = {
    "modes": (
        lambda data: payloads.read_modes(data, "course-v1:A+B+C"),
        {"mode_slug": "audit", "mode_display_name": "Audit", "min_price": 0, "currency": "usd"},
    ),
    "certificates": (
        lambda data: payloads.read_certificates(data, "ada"),
        {"course_id": "course-v1:A+B+C", "status": "downloadable", "grade": "0.9"},
    ),
    "grade": (
        lambda data: payloads.read_grade(data, "ada", "course-v1:A+B+C"),
        {"percent": 0.5, "passed": True, "letter_grade": "B"},
    ),
}


def texts_of(value: Any) -> list[str]:
    """All texts in ``value``: in its items and its attributes."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        parts = list(value)
    elif hasattr(value, "__dict__"):
        parts = list(vars(value).values())
    else:
        parts = []
    texts = []
    for part in parts:
        texts += texts_of(part)
    return texts


def assert_storable(value: Any) -> None:
    """Asserts that the database can store every text in ``value``: valid Unicode without NUL."""
    for text in texts_of(value):
        text.encode()
        assert "\0" not in text


@pytest.mark.parametrize("object_name", CORRECT_OBJECTS)
@given(data=JSON)
def test_any_json_is_read_as_storable_values_or_refused(object_name: str, data: Any) -> None:
    read, _ = CORRECT_OBJECTS[object_name]
    with suppress(LmsError):
        assert_storable(read(data))


@pytest.mark.parametrize("object_name", [*CORRECT_OBJECTS, *CORRECT_ITEMS])
@given(data=st.data())
def test_an_answer_with_one_wrong_field_is_read_as_storable_values_or_refused(
    object_name: str, data: st.DataObject
) -> None:
    read, correct = (CORRECT_OBJECTS | CORRECT_ITEMS)[object_name]
    field = data.draw(st.sampled_from(sorted(correct)))
    broken = {**correct, field: data.draw(JSON)}
    with suppress(LmsError):
        assert_storable(read([broken] if object_name in CORRECT_ITEMS else broken))


@pytest.mark.parametrize("object_name", [*CORRECT_OBJECTS, *CORRECT_ITEMS])
def test_a_correct_answer_is_read(object_name: str) -> None:
    read, correct = (CORRECT_OBJECTS | CORRECT_ITEMS)[object_name]
    assert read([correct] if object_name in CORRECT_ITEMS else correct) is not None


@pytest.mark.parametrize(
    ("object_name", "field", "value"),
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
def test_a_value_that_can_t_be_stored_is_refused(object_name: str, field: str, value: Any) -> None:
    read, correct = CORRECT_OBJECTS[object_name]
    with pytest.raises(payloads.BadValue, match="can't be stored"):
        read({**correct, field: value})


def test_characters_in_a_full_name_that_can_t_be_stored_are_replaced() -> None:
    """Such a name of one learner must not hide the accounts of the others in the same answer."""
    account = payloads.read_account({"username": "ada", "name": "A\0d\ud800a", "country": "\0"})
    assert (account.name, account.country) == ("A?d?a", "?")


def test_the_error_for_a_malformed_token_does_not_show_the_token() -> None:
    with pytest.raises(payloads.BadValue) as caught:
        payloads.read_tokens({"access_token": "secret\0secret", "expires_in": 1}, NOW)
    assert "secret" not in str(caught.value)


def test_a_course_list_with_too_many_pages_is_refused() -> None:
    with pytest.raises(BadAnswer):
        payloads.read_page({"results": [], "pagination": {"num_pages": 3_000_000, "count": 1}})
