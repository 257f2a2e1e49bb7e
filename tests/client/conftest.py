"""Runs the client against the embedded LMS of the application's tests."""

from tests.application.conftest import connected_lms, lms_server

__all__ = ["connected_lms", "lms_server"]
