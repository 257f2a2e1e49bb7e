"""Runs Usher's system checks when a server starts. Django runs them only for its commands."""

import structlog
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from usher.application.checks.layout import one_line

log = structlog.get_logger("campus.start")


def check_settings() -> None:
    """Logs warnings about the settings, such as missing settings of the connection. Raises
    ImproperlyConfigured for errors."""
    messages = checks.run_checks(tags=["usher"])
    errors = [one_line(message.msg) for message in messages if message.is_serious()]
    if errors:
        raise ImproperlyConfigured("; ".join(errors))
    for message in messages:
        log.warning(one_line(message.msg), hint=one_line(message.hint or ""))
