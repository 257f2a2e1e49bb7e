"""Classifies failures of the LMS, and logs what to do about them."""

from __future__ import annotations

from usher.client.errors import NotConfigured, TimedOut, Unreachable
from usher.contract.failures import FailureClass
from usher.engine.errors import KnownError


def advice(error: KnownError) -> str:
    """What to do; '' if the message of the error says this already."""
    if isinstance(error, NotConfigured):
        return ""
    if error.failure_class is FailureClass.THROTTLED:
        return (
            "Retried when the LMS allows it. If it continues, lower USHER_REQUESTS_A_SECOND, or "
            "raise the limit in the LMS."
        )
    return "Run `usher doctor`, which names the cause and its fix. Retried automatically."


def is_down(error: KnownError) -> bool:
    """Whether nothing answers: no connection was made, or there was no answer within a minute."""
    unconnected = isinstance(error, Unreachable) and error.is_unconnected
    return unconnected or isinstance(error, TimedOut)
