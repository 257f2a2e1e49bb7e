"""Clocks."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Check, Finding, check, failed, ok
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError

_TOLERANCE_SECONDS = 60


@check
class ClocksAgree(Check):
    """The clocks of the application and the LMS agree.

    Symptom: tokens are "not yet valid", or expire at once.
    Cause: the clock of one machine, or of a virtual machine that slept, is wrong.
    Fix: synchronize that clock, for example with systemd-timesyncd.
    """

    id = "CLK-1"
    depends_on = ("NET-1", "NET-6")

    def probe(self, context: Context) -> Finding:
        now = context.machine.now
        off = {
            "the LMS": _seconds_off(context.lms.get(LmsPath.HEARTBEAT), now),
            "the application": _seconds_off(_application(context), now),
        }
        wrong = {who: seconds for who, seconds in off.items() if abs(seconds) > _TOLERANCE_SECONDS}
        if wrong:
            seen = ", ".join(
                f"{who} is {seconds:+.0f} seconds off" for who, seconds in wrong.items()
            )
            return failed(
                f"{seen} by this machine's clock",
                cause="a clock is wrong: tokens end, or begin, at the wrong moment",
                fix="sudo timedatectl set-ntp true (on the machine that is off)",
            )
        return ok("both clocks are this machine's, within a minute")


def _application(context: Context) -> httpx.Response | None:
    try:
        return context.application.get(ApplicationPath.HEALTH_LIVE)
    except NotKnownError:
        return None


def _seconds_off(answer: httpx.Response | None, now: datetime) -> float:
    """Without an answer, or a date in it, 0: nothing is known to be wrong."""
    date = answer.headers.get("date", "") if answer is not None else ""
    try:
        return (parsedate_to_datetime(date).astimezone(UTC) - now).total_seconds()
    except ValueError:
        return 0
