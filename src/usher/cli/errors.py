"""How commands end that can't run, or that fail."""

import click

from usher.contract import exits


class CannotRun(click.ClickException):
    """The command did nothing. The message says what is missing and what to do."""

    exit_code = exits.NOT_RUN


def as_click_error(error: Exception, message: str = "") -> click.ClickException:
    """The exception with which a command ends because of ``error``, which may have an exit code."""
    is_not_run = getattr(error, "exit_code", exits.FAILED) == exits.NOT_RUN
    return (CannotRun if is_not_run else click.ClickException)(message or str(error))
