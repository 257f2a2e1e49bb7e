"""Checks that a server process runs before it serves; Django's commands run the same checks."""

import structlog
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

log = structlog.get_logger("campus.start")


def check_settings() -> None:
    """Logs missing settings of the connection. Raises ImproperlyConfigured for wrong ones."""
    found = checks.run_checks(tags=["usher"])
    wrong = [message.msg for message in found if message.is_serious()]
    if wrong:
        raise ImproperlyConfigured("; ".join(wrong))
    for message in found:
        log.warning(message.msg, hint=message.hint)
