"""The errors of ``usher connect`` and ``usher disconnect``.

ConnectError
├── Refused        the plan can't be made; nothing was changed
├── StepFailed     a step failed; the earlier steps are done, and the command can be repeated
│   └── NeedsPerson    the operator must do or allow something, then repeat the command
└── ToolFailed     a program (tutor, docker, manage.py) failed; includes the end of its output
    └── ToolMissing    the program is not installed
"""


class ConnectError(Exception):
    """The message is for a person: what happened, to what, what to do."""


class Refused(ConnectError):
    """The plan can't be made; nothing was changed."""


class StepFailed(ConnectError):
    """A step of a plan failed. step: its id."""

    def __init__(self, step: str, message: str) -> None:
        self.step = step
        super().__init__(message)


class NeedsPerson(StepFailed):
    """The operator must do or allow something, then repeat the command."""


class ToolFailed(ConnectError):
    """A program failed. exit_code: None after a timeout, or if the program was not run; stdout: all
    of its standard output."""

    def __init__(self, message: str, exit_code: int | None = None, stdout: str = "") -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        super().__init__(message)


class ToolMissing(ToolFailed):
    """The program is not installed, or can't be run."""
