"""Checks that the LMS that answers is the one in which the learners' accounts were created.

An LMS with another database, for example after a restored backup or a change of address, gives
valid answers and may even know the service worker, but not the learners. So before a worker sends
anything, and before a refusal counts, the LMS must show accounts that it is known to have;
``evidence.MissingLimit`` says how many of them may be missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from usher.application.lms.evidence import TooManyMissing, missing_limit
from usher.client.client import LmsClient
from usher.client.errors import BadAnswer, LmsError, Refused

#: Seconds for which a result is reused, if the LMS is the known one or gave no clear answer.
_REUSE_SECONDS = 60.0
#: Seconds for which a result is reused, if another LMS answered.
_REUSE_SECONDS_IF_OTHER_LMS = 5.0
#: Seconds that a thread waits for another thread's check.
_WAIT_SECONDS = 5.0

_lock = threading.Lock()
_recognitions: WeakKeyDictionary[LmsClient, Recognition] = WeakKeyDictionary()


class _Result(NamedTuple):
    """The result of one question to the LMS. asked_at: by the monotonic clock. error: why the LMS
    is not recognised; None if it is."""

    asked_at: float
    error: LmsError | None


#: Stands for the result before the first question.
_NEVER_ASKED = _Result(asked_at=float("-inf"), error=None)


class Recognition:
    """The results of the checks of one LMS, shared by the threads of a process."""

    def __init__(self) -> None:
        #: The sample that ``load`` read: when, of how many accounts, and their usernames.
        self._loaded_at = float("-inf")
        self._total = 0
        self._known_usernames: Sequence[Any] = ()
        self._check_lock, self._proof_lock = threading.Lock(), threading.Lock()
        self._last_check = _NEVER_ASKED
        self._last_proof = _NEVER_ASKED

    def load(self, sample: Callable[[], tuple[int, Sequence[Any]]]) -> None:
        """Reads the sample of known accounts, unless a sample that is not empty was read a short
        time ago. Called in the database thread. sample: returns how many accounts are known, and
        some of their usernames."""
        now = time.monotonic()
        if self._known_usernames and now - self._loaded_at <= _REUSE_SECONDS:
            return
        self._total, self._known_usernames = sample()
        self._loaded_at = now

    def check(self, lms: LmsClient) -> None:
        """Call before anything is sent; asks the LMS once a minute, or every five seconds after it
        was found to be another LMS. Raises TooManyMissing.

        Does not raise when the LMS fails to answer this check: its other endpoints may work.
        """
        if not self._known_usernames:
            return
        # If another thread's check takes too long, its last result counts.
        if not self._is_fresh() and self._check_lock.acquire(timeout=_WAIT_SECONDS):
            try:
                if not self._is_fresh():  # another thread may have checked in the meantime
                    error = self._find_error(lms)
                    self._last_check = _Result(time.monotonic(), error)
            finally:
                self._check_lock.release()
        if isinstance(self._last_check.error, TooManyMissing):
            raise self._last_check.error

    def prove(self, lms: LmsClient) -> None:
        """Call before a refusal counts. Raises LmsError unless the LMS is recognised now.

        Threads that call this method at the same time share one request that was sent after their
        calls.
        """
        called_at = time.monotonic()
        with self._proof_lock:
            if self._last_proof.asked_at <= called_at:  # no thread has asked since this call
                asked_at = time.monotonic()
                self._last_proof = _Result(asked_at, self._find_error(lms))
            error = self._last_proof.error
        if error is not None:
            raise error

    def _is_fresh(self) -> bool:
        """Whether the result of the last check may be reused."""
        is_other_lms = isinstance(self._last_check.error, TooManyMissing)
        reuse_seconds = _REUSE_SECONDS_IF_OTHER_LMS if is_other_lms else _REUSE_SECONDS
        return time.monotonic() - self._last_check.asked_at < reuse_seconds

    def _find_error(self, lms: LmsClient) -> LmsError | None:
        """Asks the LMS for the known accounts. Returns why it is not recognised; None if it is."""
        names = list(self._known_usernames)
        try:
            if names:
                # ``existing`` also checks that an LMS answers.
                missing = len(names) - len(lms.existing(names))
                missing_limit().check(
                    "account", missing=missing, sample_size=len(names), total=self._total
                )
            else:
                lms.confirm_lms()
        except Refused as error:
            return BadAnswer(f"The LMS refuses to show accounts: {error.message}")
        except LmsError as error:
            return error
        return None


def recognition(lms: LmsClient) -> Recognition:
    """The process's one ``Recognition`` of that client's LMS."""
    with _lock:
        return _recognitions.setdefault(lms, Recognition())
