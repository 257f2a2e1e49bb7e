"""Runs the client against the embedded LMS of the application's tests."""

from tests.application.conftest import joined_lms, lms_server

__all__ = ["joined_lms", "lms_server"]
