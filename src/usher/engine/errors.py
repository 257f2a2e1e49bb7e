"""The attributes of an error that decide whether and when its row is tried again.

Errors of the other system come from its client, which does not depend on the engine: any exception
with the attributes of ``KnownError`` will do. Any other exception is a bug in a job; its row is
tried again later.
"""

from __future__ import annotations

import logging
import threading
from typing import ClassVar, Protocol, runtime_checkable

from usher.contract.failures import FailureClass, storable

log = logging.getLogger("usher.engine")
_logged_bugs: set[tuple[str, str, int]] = set()
_lock = threading.Lock()


@runtime_checkable
class KnownError(Protocol):
    """failure_class: decides whether the row is tried again. code: short, for machines. message:
    for people. retry_after: seconds to wait; None if the other system did not say. request_id: the
    id of the failed request, or ''. was_sent: whether a request was sent at all; if none was sent,
    the failure does not count as an attempt."""

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
    """The base of the engine's own errors."""

    failure_class: FailureClass = FailureClass.TRANSIENT
    default_code: ClassVar[str] = "engine-error"
    retry_after: float | None = None
    request_id = ""
    #: True even for ``LeaseEnded``, where nothing was sent: all these failures count as attempts.
    was_sent = True

    def __init__(self, message: str) -> None:
        self.message = storable(message)
        super().__init__(self.message)
        self.code = self.default_code


class JobFailed(EngineError):
    """A bug in a job: its row is tried again later; other rows are not affected."""

    default_code = "internal-error"


class Unwritable(EngineError):
    """The database rejects the values that the other system returned for this row."""

    failure_class = FailureClass.REJECTED
    default_code = "unwritable"


class LeaseEnded(EngineError):
    """Nothing was sent, because the row's lease had ended and another worker may have claimed the
    row."""

    default_code = "lease-ended"


def as_known_error(error: Exception) -> KnownError:
    """``error`` itself if it is a ``KnownError``; otherwise a ``JobFailed`` with its class and
    message. The traceback of a bug is logged once in each process."""
    if isinstance(error, KnownError):
        return error
    if _remember_bug(error):
        log.error("A bug in a job; its rows are tried again later.", exc_info=error)
    return JobFailed(f"{type(error).__name__}: {error}")


def _remember_bug(error: Exception) -> bool:
    """Remembers the error's type and the line of code that raised it. Returns whether this process
    sees them for the first time: a bug that fails every row must not fill the log."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = (frame.tb_frame.f_code.co_filename, frame.tb_lineno) if frame else ("", 0)
    key = (type(error).__name__, *place)
    with _lock:
        if key in _logged_bugs:
            return False
        _logged_bugs.add(key)
    return True
