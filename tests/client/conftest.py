"""The client is tried against the LMS that the application's tests have."""

from tests.application.conftest import joined_lms, lms_server

__all__ = ["joined_lms", "lms_server"]
