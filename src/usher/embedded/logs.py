"""The lines of the embedded LMS's log."""

import logging

from usher.contract import agents
from usher.contract.terminal import printable

#: Characters of a program's name that a line shows.
_MAX_LENGTH = 60


class WithoutDoctorWarnings(logging.Filter):
    """Leaves out warnings about requests of ``usher doctor``, because doctor checks that the LMS
    refuses some requests. Errors stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or _user_agent(record) != agents.DOCTOR["User-Agent"]


class LineFormatter(logging.Formatter):
    """Appends the name of the program that sent a request to each line about the request. ``usher
    connect`` checks that the LMS refuses some requests; the name shows that these are neither
    attacks nor failures."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        if not (agent := _user_agent(record)):
            return line
        name = " ".join(printable(agent).split())[:_MAX_LENGTH]
        return f"{line} (requested by {name})"


def _user_agent(record: logging.LogRecord) -> str:
    """The name of the program that sent the request of this line, or ''."""
    headers = getattr(getattr(record, "request", None), "headers", {})
    return str(headers.get("User-Agent", ""))
