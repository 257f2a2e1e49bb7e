"""What an error says that decides what becomes of an object.

Errors of the other system come from its client, which need not know the engine: it is enough that
they have these attributes. Any other exception is a bug of a job: its object is tried again later.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from usher.contract.failures import FailureClass, storable


@runtime_checkable
class KnownError(Protocol):
    """code: short, for machines; message: for people. retry_after: seconds, None when not told.
    request_id: of the request that was refused, '' where there was none. was_sent: whether the
    other system was asked at all; otherwise it was no attempt."""

    @property
    def failure_class(self) -> FailureClass: ...

    @property
    def code(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def retry_after(self) -> float | None: ...

    @property
    def request_id(self) -> str: ...

    @property
    def was_sent(self) -> bool: ...


class EngineError(Exception):
    """Of the engine itself."""

    failure_class: FailureClass = FailureClass.TRANSIENT
    default_code: ClassVar[str] = "engine-error"
    retry_after: float | None = None
    request_id = ""
    was_sent = True

    def __init__(self, message: str) -> None:
        self.message = storable(message)
        super().__init__(self.message)
        self.code = self.default_code


class JobFailed(EngineError):
    """A bug in a job: its row is tried again later; other rows are not affected."""

    default_code = "internal-error"


class Unwritable(EngineError):
    """The database doesn't take what the other system answered for this row."""

    failure_class = FailureClass.REJECTED
    default_code = "unwritable"


class StoodStill(EngineError):
    """Not sent: the row may be somebody else's."""

    default_code = "lease-ended"


def known(error: Exception) -> KnownError:
    """The error itself if it says what becomes of the object; otherwise the bug that it is."""
    if isinstance(error, KnownError):
        return error
    return JobFailed(f"{type(error).__name__}: {error}")
