"""Clocks."""

from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Check, Finding, check, failed, ok
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import SENT_AND_RECEIVED_AT

#: A clock that differs by more is wrong.
_TOLERANCE_SECONDS = 60


@check
class ClocksAgree(Check):
    """The clocks of the application and the LMS agree.

    Symptom: tokens are "not yet valid", or expire at once.
    Cause: the clock of one machine, or of a virtual machine that slept, is wrong.
    Fix: synchronise that clock, for example with systemd-timesyncd.
    """

    id = "CLK-1"
    depends_on = ("NET-1", "NET-6")

    def probe(self, context: Context) -> Finding:
        answers = {
            "the LMS": context.lms.get(LmsPath.HEARTBEAT),
            "the application": _application_answer(context),
        }
        offsets: dict[str, float] = {}
        for server, answer in answers.items():
            seconds = seconds_off(answer) if answer is not None else None
            if seconds is not None:
                offsets[server] = seconds
        if not offsets:
            raise NotKnownError("no answer has a Date header")
        wrong_clocks = {
            server: seconds
            for server, seconds in offsets.items()
            if abs(seconds) > _TOLERANCE_SECONDS
        }
        if wrong_clocks:
            seen = ", ".join(
                f"{server} is {seconds:+.0f} seconds off"
                for server, seconds in wrong_clocks.items()
            )
            return failed(
                f"{seen} by this machine's clock",
                cause="a clock is wrong, so tokens become valid or expire at the wrong time",
                fix="sudo timedatectl set-ntp true (on the machine whose clock is wrong)",
            )
        if len(offsets) < len(answers):
            return ok(f"the clock of {next(iter(offsets))} is this machine's, within a minute")
        return ok("both clocks are this machine's, within a minute")


def _application_answer(context: Context) -> httpx.Response | None:
    """The application's answer; None if it does not answer, and only the LMS's clock is checked."""
    try:
        return context.application.get(ApplicationPath.HEALTH_LIVE)
    except NotKnownError:
        return None


def seconds_off(answer: httpx.Response) -> float | None:
    """Returns how many seconds the server's clock is off, according to the answer's Date header;
    negative if it is slow, None without a date. It is 0 for every date between request and answer,
    which may be minutes apart on a busy machine."""
    sent_at, received_at = answer.extensions[SENT_AND_RECEIVED_AT]
    try:
        date = parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
    except ValueError:
        return None
    nearest_possible = min(max(date, sent_at), received_at)
    return (date - nearest_possible).total_seconds()
