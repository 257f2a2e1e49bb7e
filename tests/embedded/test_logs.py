"""The lines of the embedded LMS's log."""

import logging
from types import SimpleNamespace
from typing import Any

from usher.embedded.logs import LineFormatter, WithoutDoctorWarnings


def format_line(**extra: Any) -> str:
    record = logging.makeLogRecord({"msg": "Bad Request: /x", "levelname": "WARNING", **extra})
    return LineFormatter("{levelname}: {message}", style="{").format(record)


def test_a_line_about_a_request_names_the_program_that_sent_it() -> None:
    request = SimpleNamespace(headers={"User-Agent": "usher connect"})
    assert format_line(request=request) == "WARNING: Bad Request: /x (requested by usher connect)"


def test_a_line_about_a_request_without_user_agent_is_unchanged() -> None:
    assert format_line() == "WARNING: Bad Request: /x"
    assert format_line(request=SimpleNamespace(headers={})) == "WARNING: Bad Request: /x"


def test_a_user_agent_cannot_add_lines_or_control_characters_to_the_log() -> None:
    request = SimpleNamespace(headers={"User-Agent": f"a\nERROR\x1b[2J{'b' * 200}"})
    formatted = format_line(request=request)
    assert "\n" not in formatted
    assert "\x1b" not in formatted
    assert len(formatted) < 120


def test_warnings_about_requests_of_doctor_are_left_out_and_errors_are_logged() -> None:
    """Lines about doctor's refused requests look like failures and would hide real ones."""

    def is_logged(agent: str, level: int) -> bool:
        request = SimpleNamespace(headers={"User-Agent": agent})
        record = logging.makeLogRecord({"levelno": level, "request": request})
        return WithoutDoctorWarnings().filter(record)

    assert not is_logged("usher doctor", logging.WARNING)
    assert is_logged("usher doctor", logging.ERROR)
    assert is_logged("a browser", logging.WARNING)
    # A warning that is not about a request.
    assert WithoutDoctorWarnings().filter(logging.makeLogRecord({"levelno": logging.WARNING}))
