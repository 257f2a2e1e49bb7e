"""Loggers of this app: through the standard library, whether or not the project sets up structlog.

Without configuration structlog prints to standard output, where commands write their JSON.
"""

import logging
from typing import Any

import structlog


def logger(name: str) -> Any:
    """A logger whose methods take an event and its values: ``log.info("sign-in", subject="ada")``.
    name: of the logger in the standard library."""
    return structlog.wrap_logger(
        logging.getLogger(name), wrapper_class=structlog.stdlib.BoundLogger
    )
