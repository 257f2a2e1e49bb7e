"""A shape accepts the values that it describes, and names the place where another value differs."""

from typing import Any

import pytest

from usher.doctor.conformance.shapes import differences, names_in


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("<text>", "a"),
        ("<int>", 3),
        ("<number>", 0.5),
        ("<bool>", False),
        ("<time|null>", None),
        ("<time>", "2026-01-01T00:00:00Z"),
        ("<url>", "http://lms.example/x"),
        ("~^Signed Out", "Signed Out | Open edX"),
        ("{worker}", "serviceworker"),
        ("The user {unknown} does not exist.", "The user ada does not exist."),
        ({"a": "<int>"}, {"a": 1, "new_in_a_later_release": True}),
        ({"a?": "<int>"}, {}),
        (["<int>"], [1, 2]),
        (["<int>"], []),
    ],
)
def test_a_value_that_fits_the_shape_has_no_differences(shape: Any, value: Any) -> None:
    assert differences(shape, value, {"worker": "serviceworker"}) == []


@pytest.mark.parametrize(
    ("shape", "value", "difference"),
    [
        ("<int>", True, "body is True, expected <int>"),
        ("<time>", "yesterday", "body is 'yesterday', expected <time>"),
        ("<url>", "None?x", "body is 'None?x', expected <url>"),
        ("{worker}", "somebody", "body is 'somebody', expected '{worker}'"),
        ({"a": "<int>"}, {}, "body.a is missing"),
        ({"a": ["<int>"]}, {"a": [1, "x"]}, "body.a[1] is 'x', expected <int>"),
        (["<int>"], {}, "body is {}, expected a list"),
        (True, 1, "body is 1, expected True"),
    ],
)
def test_a_value_that_does_not_fit_the_shape_is_named_with_its_place(
    shape: Any, value: Any, difference: str
) -> None:
    assert differences(shape, value, {"worker": "serviceworker"}) == [difference]


def test_names_in_finds_every_placeholder_of_a_request() -> None:
    request = {"path": "/a/{course:raw}", "json": {"user": "{learner}", "n": [1, "{org}"]}}
    assert names_in(request) == {"course", "learner", "org"}
