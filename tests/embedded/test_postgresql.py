"""The embedded LMS on PostgreSQL."""

import tempfile
from collections.abc import Iterator

import pgserver
import pytest

from tests.support.embedded import EmbeddedLms, embedded_lms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lms_on_postgresql() -> Iterator[EmbeddedLms]:
    """An LMS with a database in a PostgreSQL server that runs for this module."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = pgserver.get_server(folder)
        try:
            server.psql("CREATE DATABASE lms")
            # The server's address names the database ``postgres``.
            url = server.get_uri().replace("/postgres?", "/lms?")
            with embedded_lms(DATABASE_URL=url) as running:
                yield running
        finally:
            server.cleanup()


def test_a_learner_registers_signs_in_and_enrolls(lms_on_postgresql: EmbeddedLms) -> None:
    lms = lms_on_postgresql
    print_engine = "from django.db import connection; print(connection.vendor)"
    assert lms.shell(print_engine) == "postgresql"
    assert lms.register("ada").status_code == 200
    assert lms.register("ada").json()["error_code"] == "duplicate-email-username"
    with lms.browser() as browser, lms.api() as api:
        assert lms.sign_in(browser, "ada").headers["Location"] == "/dashboard"
        details = {"course_id": "course-v1:edX+DemoX+Demo_Course"}
        body = {"user": "ada", "mode": "verified", "course_details": details}
        response = api.post("/api/enrollment/v1/enrollment", json=body)
        assert response.json()["mode"] == "verified"
        keys = "course-v1%3AedX%2BE2E-101%2Bcourse,course-v1%3AedX%2BDemoX%2BDemo_Course"
        runs = api.get(f"/api/courses/v1/courses/?course_keys={keys}").json()
    assert [result["number"] for result in runs["results"]] == ["DemoX", "E2E-101"]
