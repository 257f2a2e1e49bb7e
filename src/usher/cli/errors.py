"""The exceptions of commands that fail or can't run."""

import click

from usher.contract import exits


class CannotRun(click.ClickException):
    """The command did nothing. The message says what is missing and what to do."""

    exit_code = exits.NOT_RUN


def as_click_error(error: Exception, message: str = "") -> click.ClickException:
    """Converts ``error`` to the exception that ends a command: CannotRun if the error's
    ``exit_code`` is NOT_RUN. message: shown in place of the error's own message."""
    is_not_run = getattr(error, "exit_code", exits.FAILED) == exits.NOT_RUN
    return (CannotRun if is_not_run else click.ClickException)(message or str(error))
