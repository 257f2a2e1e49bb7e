"""The errors of ``usher demo`` and ``usher dev``."""

from usher.contract import exits


class DemoError(Exception):
    """The demo can't start or continue. The message says what happened and what to do."""

    exit_code = exits.FAILED


class NotStarted(DemoError):
    """Nothing was started or changed."""

    exit_code = exits.NOT_RUN
