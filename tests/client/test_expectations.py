"""The client turns each recorded refusal of an LMS into an error of the expected class."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.doctor.conformance.test_expectations import RECORDINGS
from usher.client.client import Credentials, LmsClient
from usher.client.errors import LmsError
from usher.client.http import Http
from usher.client.registration import register
from usher.client.shared import LocalState
from usher.doctor.conformance.expectations import Expectation, load

RUN = "course-v1:edX+DemoX+Demo_Course"
#: Endpoint → a function that sends a request to it.
CALLS: dict[str, Callable[[LmsClient], Any]] = {
    "/api/user/v1/me": lambda lms: lms.me("token"),
    "/api/courses/v1/courses/": lambda lms: lms.runs_page(1),
    "/api/course_modes/v1/courses/<key>/": lambda lms: lms.run_modes(RUN),
    "/user_api/v1/account/registration/": lambda lms: register(
        lms, username="ada", email="a@b.co", name="Ada", country="FR", access_token="t"
    ),
    "/api/enrollment/v1/enrollment": lambda lms: lms.enroll(
        "ada", RUN, mode="audit", is_active=True
    ),
    "/oauth2/access_token": lambda lms: lms.refresh("refresh"),
}
REFUSALS = [expectation for expectation in load() if expectation.failure]


@pytest.mark.parametrize("expectation", REFUSALS, ids=lambda expectation: expectation.id)
def test_the_client_raises_an_error_of_the_expected_failure_class(expectation: Expectation) -> None:
    recording_name = expectation.source[0]
    server = _server_that_answers(RECORDINGS[recording_name]["response"])
    try:
        lms = LmsClient(
            Http(f"http://127.0.0.1:{server.server_address[1]}", timeout=60, state=LocalState()),
            Credentials(
                service_worker="worker",
                service_token="token",
                client_id="client",
                client_secret="secret",
                backend="mitxpro-oauth2",
            ),
        )
        with pytest.raises(LmsError) as raised:
            CALLS[expectation.endpoint](lms)
    finally:
        server.shutdown()
        server.server_close()
    assert raised.value.failure_class == expectation.failure
    assert raised.value.message


def test_every_endpoint_with_a_recorded_refusal_is_called() -> None:
    assert {refusal.endpoint for refusal in REFUSALS} == set(CALLS)


def _server_that_answers(recorded: dict[str, Any]) -> ThreadingHTTPServer:
    """A server that answers every request with the recorded answer."""
    body = json.dumps(recorded["body"]).encode()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response_only(recorded["status"])
            for name, value in recorded["headers"].items():
                if isinstance(value, str):  # the recorder's names of cookies are a list
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Logs nothing, because the tests read only answers."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Checks every 0.01 s whether to stop, so that ``shutdown`` does not wait for half a second.
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server
