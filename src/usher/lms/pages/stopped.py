"""Why a sign-in was stopped, kept in the session until the page is shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from usher.contract.failures import RegistrationError
from usher.lms.accounts.services import Learner
from usher.lms.errors import AccountRefused

SESSION_KEY = "usher_stopped"


class Reason(StrEnum):
    """taken: name or address is another account's; other_account: signed in here as somebody
    else; invalid: the LMS does not take these values; incomplete: the application has given
    this person no username yet; failed: the application did not answer as it must."""

    TAKEN = "taken"
    OTHER_ACCOUNT = "other_account"
    INVALID = "invalid"
    INCOMPLETE = "incomplete"
    FAILED = "failed"

    @classmethod
    def of(cls, refusal: AccountRefused) -> Reason:
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
    """Lead the browser to the page. A page of its own address, so that loading it again shows it
    again instead of starting another sign-in."""
    request.session[SESSION_KEY] = {
        "reason": reason.value,
        "backend": backend,
        "username": learner.username if learner else "",
        "email": learner.email if learner else "",
        "current": current,
        "detail": detail,
        "next": request.session.get("next") or "",
    }
    return HttpResponseRedirect(reverse("usher:stopped"))
