"""With ``opened_by``, tests replace the LMS or refuse connections to an LMS."""

import httpx
import pytest

from usher.client import OpenEdx
from usher.client.connection import opened_by


class Answers(httpx.MockTransport):
    deadline = 0.0


def test_an_opener_answers_without_a_network() -> None:
    opened = []

    def opener(base_url, ssl_context):
        opened.append(base_url)
        return Answers(lambda request: httpx.Response(200, json={"username": "worker"}))

    lms = OpenEdx("http://lms.invalid", worker="worker", token="t")
    with opened_by(opener):
        assert lms.me("t") == "worker"
        assert lms.me("t") == "worker"
    assert opened == ["http://lms.invalid"], "a connection is used again"


def test_an_opener_refuses() -> None:
    def opener(base_url, ssl_context):
        raise AssertionError(f"no request to {base_url}")

    lms = OpenEdx("http://lms.invalid", worker="worker", token="t")
    with opened_by(opener), pytest.raises(AssertionError, match="no request to") as caught:
        lms.me("t")
    assert caught.value.__context__ is None, "the traceback shows no other error"
