"""The lines of the embedded LMS's log."""

import logging

from usher.contract.terminal import printable

_MAX_LENGTH = 60


class LineFormatter(logging.Formatter):
    """Adds to lines about a request the program that sent it. ``usher doctor`` sends some requests
    to check that the LMS refuses them; its name shows that they are neither attacks nor
    failures."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        headers = getattr(getattr(record, "request", None), "headers", {})
        if not (agent := headers.get("User-Agent", "")):
            return line
        name = " ".join(printable(agent).split())[:_MAX_LENGTH]
        return f"{line} (requested by {name})"
