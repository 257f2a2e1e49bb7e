"""The lines of the embedded LMS's log."""

import logging

from usher.contract import agents
from usher.contract.terminal import printable

_MAX_LENGTH = 60


class WithoutChecks(logging.Filter):
    """Leaves out warnings about requests of ``usher doctor``, which sends some to check that the
    LMS refuses them. Errors stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or _agent(record) != agents.DOCTOR["User-Agent"]


class LineFormatter(logging.Formatter):
    """Appends to a line about a request the name of the program that sent it. ``usher connect``
    sends some requests to check that the LMS refuses them; its name shows that they are neither
    attacks nor failures."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        if not (agent := _agent(record)):
            return line
        name = " ".join(printable(agent).split())[:_MAX_LENGTH]
        return f"{line} (requested by {name})"


def _agent(record: logging.LogRecord) -> str:
    """The program that sent the request which the line is about, or ''."""
    headers = getattr(getattr(record, "request", None), "headers", {})
    return str(headers.get("User-Agent", ""))
