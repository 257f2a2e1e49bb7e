"""Logging: one line for each event, with its values and without secrets.

The format is for people on a terminal, JSON elsewhere.
"""

import logging.config
import sys
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured
from structlog.typing import EventDict, Processor, WrappedLogger

from usher.application.audit.text import one_line, safe

#: The keys of an event that structlog sets. All other keys are values of the event.
_STANDARD_KEYS = ("event", "level", "timestamp", "logger", "exception", "stack")
#: Longer messages are cut off.
_MAX_EVENT_LENGTH = 2000
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redacts values named like secrets. Keeps the message and every value in one line, but not
    ``exception`` and ``stack``."""
    standard = {name: event[name] for name in _STANDARD_KEYS if name in event}
    values = {name: value for name, value in event.items() if name not in _STANDARD_KEYS}
    text = {"event": one_line(standard.pop("event", ""), limit=_MAX_EVENT_LENGTH)}
    return {**safe(values), **standard, **text}


_COMMON_PROCESSORS: list[Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


#: Loggers that never log below these levels. At DEBUG, Django logs database queries with their
#: values, each variable that a template does not find, and each file that the server watches. At
#: INFO, httpx logs URLs, which may have OAuth codes.
_LOWEST_LEVELS = {
    "django.db.backends": "INFO",
    "django.template": "INFO",
    "django.utils.autoreload": "INFO",
    "httpx": "WARNING",
    "httpcore": "WARNING",
    "oauthlib": "WARNING",
    "oauth2_provider": "WARNING",
}


def settings(level: str) -> dict[str, Any]:
    """The value of ``LOGGING``. level: the lowest level to log, from DEBUG to CRITICAL. The loggers
    of ``_LOWEST_LEVELS`` may have a higher one. Raises ImproperlyConfigured for another word."""
    if level not in _LEVELS:
        raise ImproperlyConfigured(f"LOG_LEVEL is {level!r}. Write one of: {', '.join(_LEVELS)}.")
    # Replaces the handlers and levels that Django gives its own loggers.
    own_loggers: dict[str, dict[str, Any]] = {
        name: {"handlers": [], "propagate": True, "level": level}
        for name in ("django", "django.server")
    }
    other_loggers = {
        name: {"level": max(level, lowest, key=_LEVELS.index)}
        for name, lowest in _LOWEST_LEVELS.items()
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "out": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}
        },
        "formatters": {"line": {"()": "campus.logs.formatter"}},
        "root": {"handlers": ["out"], "level": level},
        "loggers": own_loggers | other_loggers,
    }


def formatter() -> logging.Formatter:
    """The formatter of ``LOGGING``: for people if standard error is a terminal, else JSON."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _json()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_COMMON_PROCESSORS,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            without_secrets,
            renderer,
        ],
    )


def _json() -> Any:
    return structlog.processors.JSONRenderer(sort_keys=True)


def configure(settings: dict[str, Any]) -> None:
    """``LOGGING_CONFIG``: structlog's loggers write through the standard ones."""
    structlog.configure(
        processors=[*_COMMON_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(settings)
