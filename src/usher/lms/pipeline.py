"""Our steps of the platform's sign-in pipeline.

An unknown learner is created here and goes straight through. Nobody is ever linked to an account
that was there before: the pipeline stops and a page says so.
"""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.sites.models import Site
from django.http import HttpResponse

from usher.contract.limits import FULL_NAME_MAX_LENGTH
from usher.lms import conf
from usher.lms.accounts.services import Learner, create_account
from usher.lms.errors import AccountRefused
from usher.lms.pages.stopped import Reason, stop

log = logging.getLogger(__name__)

STEP = "usher.lms.pipeline.create_learner"
MIDDLEWARE = (
    "usher.lms.middleware.ApplicationSignIn",
    "usher.lms.signout.middleware.EndedSessions",
)
#: Entries where another view makes the account and the pipeline only links it.
API_ENTRIES = ("register_api", "login_api")


def install(settings: Any) -> None:
    """Put our step before the one that would send an unknown learner to a form, and our handler
    of failures after the platform's, so that it has the first say."""
    steps = list(getattr(settings, "SOCIAL_AUTH_PIPELINE", None) or [])
    anchor = conf.platform().PIPELINE_ANCHOR
    if STEP not in steps and anchor in steps:
        steps.insert(steps.index(anchor), STEP)
        settings.SOCIAL_AUTH_PIPELINE = steps
    elif STEP not in steps:
        log.error(
            "Unknown learners can't be created at sign-in: %s is not in the pipeline.", anchor
        )
    missing = [path for path in MIDDLEWARE if path not in settings.MIDDLEWARE]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *missing]


def create_learner(
    strategy: Any,
    backend: Any,
    details: dict[str, Any],
    uid: str,
    *args: Any,
    user: Any = None,
    social: Any = None,
    auth_entry: str = "",
    **kwargs: Any,
) -> dict[str, Any] | HttpResponse | None:
    """Step of the pipeline: the learner's new account, or a page that says why there is none."""
    if social or auth_entry in API_ENTRIES or backend.name not in conf.backends():
        return None
    if made := _made_meanwhile(strategy, backend, uid, user):
        return made
    request = strategy.request
    learner = _learner(details, kwargs.get("response") or {})
    if user is not None:
        # Found by e-mail by an earlier step, or signed in here as somebody who isn't linked.
        signed_in = request.user.is_authenticated
        reason = Reason.OTHER_ACCOUNT if signed_in else Reason.TAKEN
        current = request.user.get_username()
        return stop(request, reason, backend.name, learner, current=current)
    if not learner.username or uid != learner.username:
        return stop(request, Reason.INCOMPLETE, backend.name, learner)
    try:
        user = create_account(learner, backend.name, Site.objects.get_current(request))
    except AccountRefused as refusal:
        if made := _made_meanwhile(strategy, backend, uid, user):
            return made
        log.warning("Sign-in stopped by %s (%s).", backend.name, refusal.code.value)
        return stop(request, Reason.of(refusal), backend.name, learner, detail=str(refusal))
    link = strategy.storage.user.get_social_auth(backend.name, uid)
    return {"user": user, "social": link, "is_new": True, "new_association": True}


def _made_meanwhile(strategy: Any, backend: Any, uid: str, user: Any) -> dict[str, Any] | None:
    """The learner's own account, where the application has made it since the sign-in began."""
    link = strategy.storage.user.get_social_auth(backend.name, uid)
    if link is None or user not in (None, link.user):
        return None
    return {"user": link.user, "social": link, "is_new": False, "new_association": False}


def _learner(details: dict[str, Any], response: dict[str, Any]) -> Learner:
    """What the application answered, as text, and never longer than the platform keeps."""
    username = str(details.get("username") or "")
    name = str(details.get("name") or details.get("fullname") or "").strip() or username
    country = response.get("country")
    known = isinstance(country, str) and conf.platform().country_is_known(country)
    return Learner(
        username=username,
        email=str(details.get("email") or ""),
        name=name[:FULL_NAME_MAX_LENGTH],
        country=str(country) if known else "",
    )
