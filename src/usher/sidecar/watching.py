"""Pass after pass, for as long as the sidecar runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from usher.client.errors import LmsError
from usher.connect.application.checkout import Wishes
from usher.sidecar.errors import SidecarError
from usher.sidecar.opening import opened_application, with_lms
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.reconcile import Asked, reconcile

#: Seconds between two looks at the application's tables.
EVERY = 3.0
_LONGEST_WAIT = 60.0
#: Of five seconds of the application's database at most one is the sidecar's.
_REST_TO_WORK = 4.0


def watch(
    wishes: Wishes,
    lms_url: str,
    asked: Asked,
    *,
    after: Callable[[Outcome], None],
    troubled: Callable[[str, float], None],
) -> None:
    """Never returns. after: told of each pass that did something; troubled: why, and the seconds
    until the next try. The application and the LMS may be restarted meanwhile."""
    memory, wait = Memory(), EVERY
    while True:
        try:
            with opened_application(wishes) as (checkout, adapter, agent):
                sides = with_lms(checkout, adapter, agent, lms_url)
                while True:
                    started = time.monotonic()
                    outcome = reconcile(sides, asked, Outcome(memory=memory))
                    wait = EVERY
                    if outcome.numbers:
                        after(outcome)
                    # Among a million learners a look takes seconds of the application's database.
                    time.sleep(max(EVERY, _REST_TO_WORK * (time.monotonic() - started)))
        except (SidecarError, LmsError) as error:
            troubled(str(error), wait)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
