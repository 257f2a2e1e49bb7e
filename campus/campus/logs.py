"""Logging: one line an event, structured, with secrets taken out."""

import logging.config
from typing import Any

LOGGING: dict[str, Any] = {"version": 1, "disable_existing_loggers": False}


def configure(settings: dict[str, Any]) -> None:
    logging.config.dictConfig(settings)
