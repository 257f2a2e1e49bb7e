"""A server that is no Open edX is named as the cause, whatever JSON it answers."""

from typing import Any

import pytest

from tests.doctor.small_server import Answer, serving
from usher.contract.paths import LmsPath
from usher.doctor.conformance.discovery import ConformanceError
from usher.doctor.conformance.run import Request, check

OWNER = Answer(200, {"username": "worker"})
NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("me", "courses"),
    [
        (Answer(200, NESTED), Answer(200, {"results": []})),
        (Answer(200, b'{"username": "\\ud800"}'), Answer(200, {"results": []})),
        (OWNER, Answer(200, NESTED)),
        (OWNER, Answer(200, [])),
        (OWNER, Answer(200, {"results": {"a": 1}})),
        (OWNER, Answer(200, {"results": [{"course_id": 5}]})),
        (OWNER, Answer(200, {"results": [{"enrollment_end": "soon"}]})),
    ],
    ids=[
        *("nested owner", "half a pair", "nested list", "list", "object", "no org"),
        "no time",
    ],
)
def test_another_shape_of_an_answer_is_an_error_with_a_message(me: Any, courses: Any) -> None:
    with (
        serving({LmsPath.ME: me, LmsPath.COURSES: courses}) as server,
        pytest.raises(ConformanceError, match="Is this the address of an Open edX LMS"),
    ):
        check(Request(lms_url=server, token="a-token"))


def test_the_error_about_another_server_names_the_address_that_was_requested() -> None:
    with serving({}) as server, pytest.raises(ConformanceError) as refused:
        check(Request(lms_url=server, token="a-token"))
    assert str(refused.value).startswith(f"{server}{LmsPath.ME} answers 404 and no username.")
