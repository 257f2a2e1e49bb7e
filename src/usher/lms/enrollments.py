"""Rules of the platform's enrollment API, shared by all platform adapters (``USHER_PLATFORM``).
They decide which change a request needs, and which EnrollmentError a platform exception becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from usher.lms.errors import EnrollmentError, EnrollmentRefused

#: An enrollment's mode, and whether the enrollment is active.
State = tuple[str, bool]

#: Messages of the public API. For other codes the platform's exception has the message.
MESSAGES = {
    EnrollmentError.UNKNOWN_RUN: "No course '{key}' found for enrollment",
    EnrollmentError.MODE_UNAVAILABLE: (
        "The [{mode}] course mode is expired or otherwise unavailable for course run [{key}]."
    ),
    EnrollmentError.CLOSED: "Enrollment is closed for course run [{key}].",
    EnrollmentError.FULL: "Course run [{key}] is full.",
}


@dataclass(frozen=True)
class NewEnrollment:
    """An enrollment to add. user: with the profile loaded. key: the course key. mode: None for the
    run's default. force: enroll even in a closed run or an expired mode."""

    user: Any
    key: Any
    mode: str | None
    force: bool


class Step(Enum):
    """The change that an enrollment needs."""

    NOTHING = "nothing"
    ADD = "add"
    UPDATE = "update"


def next_step(
    current_state: State | None, *, mode: str | None, is_active: bool, username: str, key: Any
) -> Step:
    """The change that the public view would make for a staff user. Raises EnrollmentRefused.

    current_state: None without an enrollment. mode, is_active: the requested state; a mode of None
    keeps the current one. username, key: the learner and the run, for messages.

    Re-enrolling a learner who left is an update: the platform then checks neither whether the run
    is closed nor whether it is full.
    """
    if current_state is None:
        if is_active:
            return Step.ADD
        message = f"{username} is not enrolled in {key}."
        raise EnrollmentRefused(EnrollmentError.NOT_ENROLLED, message)
    current_mode, currently_active = current_state
    mode_changes = mode is not None and current_mode != mode
    activity_changes = currently_active != is_active
    if mode_changes and activity_changes and not is_active:
        # The caller's copy of the enrollment is out of date.
        message = (
            f"Enrollment mode mismatch: active mode={current_mode}, requested mode={mode}. "
            "Won't deactivate."
        )
        raise EnrollmentRefused(EnrollmentError.MODE_MISMATCH, message)
    return Step.UPDATE if mode_changes or activity_changes else Step.NOTHING


@contextmanager
def raising_refusals(
    codes: Mapping[type[Exception], EnrollmentError], key: Any, mode: str | None
) -> Iterator[None]:
    """Raise EnrollmentRefused in place of the platform's exceptions within the block.

    codes: exception class → code. The first class that matches the exception counts.
    """
    try:
        yield
    except tuple(codes) as error:
        code = next(code for exception, code in codes.items() if isinstance(error, exception))
        message = MESSAGES[code].format(key=key, mode=mode) if code in MESSAGES else str(error)
        raise EnrollmentRefused(code, message or f"Not possible in {key}.") from error


def compute_once(cache: dict[Any, Any], key: Any, compute: Callable[[], Any]) -> Any:
    """The result of ``compute()``, cached in ``cache`` under ``key``. Exceptions are not
    cached."""
    if key not in cache:
        cache[key] = compute()
    return cache[key]
