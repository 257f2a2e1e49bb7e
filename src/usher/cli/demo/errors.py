"""The errors of ``usher demo`` and ``usher dev``."""

from usher.contract import exits


class DemoError(Exception):
    """The demo can't start or continue. The message says what happened and what to do."""

    exit_code = exits.FAILED


class ProcessEnded(DemoError):
    """A process ended by itself. report: the name of the process, how it ended, and the cause or
    the end of its log."""

    def __init__(self, report: str) -> None:
        super().__init__(
            f"{report}\nStart this command again. If the process stops again, correct the cause "
            "that the log names."
        )
        self.report = report


class NotStarted(DemoError):
    """Nothing was started or changed."""

    exit_code = exits.NOT_RUN
