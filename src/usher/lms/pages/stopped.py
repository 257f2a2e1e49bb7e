"""Stops a sign-in: stores the reason in the session for the page ``/usher/stopped/``."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from usher.contract.failures import RegistrationError, storable
from usher.lms.accounts.services import Learner
from usher.lms.errors import AccountRefused

#: Session variable: what the page shows.
SESSION_KEY = "usher_stopped"
#: Characters of each text on the page.
_LONGEST_TEXT = 500


class Reason(StrEnum):
    """Why a sign-in was stopped.

    taken: another account has the username or e-mail address. other_account: the browser is signed
    in to a different LMS account. invalid: the LMS does not accept the learner's data. incomplete:
    the application has no username for the learner yet. failed: the application did not answer as
    expected.
    """

    TAKEN = "taken"
    OTHER_ACCOUNT = "other_account"
    INVALID = "invalid"
    INCOMPLETE = "incomplete"
    FAILED = "failed"

    @classmethod
    def from_refusal(cls, refusal: AccountRefused) -> Reason:
        invalid = (RegistrationError.VALIDATION, RegistrationError.INVALID_COUNTRY)
        return cls.INVALID if refusal.code in invalid else cls.TAKEN


def stop(
    request: Any,
    reason: Reason,
    backend: str,
    learner: Learner | None = None,
    *,
    current: str = "",
    detail: str = "",
) -> HttpResponse:
    """A redirect to the page that explains the stop. The page has its own URL, so that a reload
    shows the page again instead of starting another sign-in.

    learner: None if it is not known who signs in. current: username of the LMS account that the
    browser is signed in to; '' if it is signed in to none. detail: a further sentence for the page.
    """
    details = {
        "reason": reason.value,
        "backend": backend,
        "username": learner.username if learner else "",
        "email": learner.email if learner else "",
        "current": current,
        "detail": detail,
        "next": request.session.get("next") or "",
    }
    # The application's texts may have any length and any characters.
    for name in ("username", "email", "detail"):
        details[name] = storable(details[name])[:_LONGEST_TEXT]
    request.session[SESSION_KEY] = details
    return HttpResponseRedirect(reverse("usher:stopped"))
