"""The lines of the embedded LMS's log."""

import logging
from types import SimpleNamespace
from typing import Any

from usher.embedded.logs import LineFormatter


def line(**extra: Any) -> str:
    record = logging.makeLogRecord({"msg": "Bad Request: /x", "levelname": "WARNING", **extra})
    return LineFormatter("{levelname}: {message}", style="{").format(record)


def test_a_line_about_a_request_names_the_program_that_sent_it() -> None:
    request = SimpleNamespace(headers={"User-Agent": "usher doctor"})
    assert line(request=request) == "WARNING: Bad Request: /x (requested by usher doctor)"


def test_other_lines_stay_as_they_are() -> None:
    assert line() == "WARNING: Bad Request: /x"
    assert line(request=SimpleNamespace(headers={})) == "WARNING: Bad Request: /x"


def test_a_user_agent_can_not_write_lines_of_its_own() -> None:
    request = SimpleNamespace(headers={"User-Agent": f"a\nERROR\x1b[2J{'b' * 200}"})
    shown = line(request=request)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) < 120
