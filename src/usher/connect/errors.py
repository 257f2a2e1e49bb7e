"""What can stop a connection.

ConnectError
├── Refused        the plan can't be made; nothing was changed
├── StepFailed     a step did not do what it should; the steps before it stand, run again
│   └── NeedsPerson    a person must do or allow the next thing, then run it again
└── ToolFailed     a program (tutor, docker, manage.py) failed; has its last words
    └── ToolMissing    it is not there at all
"""


class ConnectError(Exception):
    """The message is for a person: what happened, to what, what to do."""


class Refused(ConnectError):
    pass


class StepFailed(ConnectError):
    def __init__(self, step: str, message: str) -> None:
        self.step = step
        super().__init__(message)


class NeedsPerson(StepFailed):
    pass


class ToolFailed(ConnectError):
    """exit_code: None when it ran out of time; stdout: all of its standard output."""

    def __init__(self, message: str, exit_code: int | None = None, stdout: str = "") -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        super().__init__(message)


class ToolMissing(ToolFailed):
    pass
