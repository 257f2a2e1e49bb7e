"""With ``opened_by``, tests replace the LMS or refuse connections to an LMS."""

import httpx
import pytest

from usher.client import OpenEdx
from usher.client.connection import opened_by


def test_a_transport_of_the_opener_answers_without_a_network() -> None:
    opened_urls = []

    def opener(base_url, ssl_context):
        opened_urls.append(base_url)
        return httpx.MockTransport(lambda request: httpx.Response(200, json={"username": "worker"}))

    lms = OpenEdx("http://lms.invalid", worker="worker", token="t")
    with opened_by(opener):
        assert lms.me("t") == "worker"
        assert lms.me("t") == "worker"
    assert opened_urls == ["http://lms.invalid"], "the connection is opened once"


def test_an_exception_of_the_opener_reaches_the_caller() -> None:
    def opener(base_url, ssl_context):
        raise AssertionError(f"no request to {base_url}")

    lms = OpenEdx("http://lms.invalid", worker="worker", token="t")
    with opened_by(opener), pytest.raises(AssertionError, match="no request to") as caught:
        lms.me("t")
    assert caught.value.__context__ is None, "the traceback shows no other error"
