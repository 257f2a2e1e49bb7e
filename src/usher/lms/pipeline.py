"""Usher's steps of the platform's sign-in pipeline.

A learner signs in only through the link between the application's username and an LMS account. If a
learner has no link, these steps create an account with a link. An existing account is never linked
and never signed in, however the platform found the account: by e-mail address, by a
case-insensitive database comparison, through the browser's session, or through an unfinished
pipeline.

Parameters from the browser (``auth_entry``, ``partial_token``) are not trusted.
"""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.sites.models import Site
from django.http import HttpResponse

from usher.contract.limits import FULL_NAME_MAX_LENGTH
from usher.contract.paths import LmsPath
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.accounts.services import Learner, create_account
from usher.lms.errors import AccountRefused
from usher.lms.pages.stopped import Reason, stop

log = logging.getLogger(__name__)

CREATE_LEARNER = "usher.lms.pipeline.create_learner"
REQUIRE_LINK = "usher.lms.pipeline.require_link"
MIDDLEWARE = (
    "usher.lms.middleware.ApplicationSignIn",
    "usher.lms.signout.middleware.EndedSessions",
    "usher.lms.middleware.DirectRegistration",
    "usher.lms.middleware.CourseLinks",
)


def install(settings: Any) -> None:
    """Add Usher's steps to ``SOCIAL_AUTH_PIPELINE`` and its middleware to ``MIDDLEWARE``.

    ``create_learner`` is inserted before the platform's step that would send an unknown learner to
    a form, and ``require_link`` after that step. The platform resumes a pipeline at its own step,
    past ``create_learner``; ``require_link`` still runs, before anything is linked or written. The
    middleware is added at the end, so that Django passes each exception to Usher's middleware
    first.
    """
    steps = list(getattr(settings, "SOCIAL_AUTH_PIPELINE", None) or [])
    anchor = conf.platform().PIPELINE_ANCHOR
    if anchor in steps:
        steps = [step for step in steps if step not in (CREATE_LEARNER, REQUIRE_LINK)]
        position = steps.index(anchor)
        settings.SOCIAL_AUTH_PIPELINE = [
            *steps[:position],
            CREATE_LEARNER,
            anchor,
            REQUIRE_LINK,
            *steps[position + 1 :],
        ]
    elif CREATE_LEARNER not in steps:
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
    **kwargs: Any,
) -> dict[str, Any] | HttpResponse | None:
    """Pipeline step: return the learner's account, created if there is none, or a redirect to the
    page that says why the sign-in was stopped. None leaves the pipeline as it is: the sign-in is
    not through an application, or the registration API runs the pipeline."""
    if backend.name not in conf.backends() or _is_registration(strategy, details, user, uid):
        return None
    if isinstance(details.get("email"), str):
        # A later step of the platform saves it as the account's address.
        details["email"] = details["email"].strip()
    request = strategy.request
    learner = _read_learner(details, kwargs.get("response") or {})
    if not _names_learner(details, uid):
        return _stop_without_username(request, backend, learner)
    if link := lookup.find_link(backend.name, uid):
        return _sign_in_linked_account(request, backend, learner, link, user=user)
    if user is not None:
        # An earlier step found this user, or the browser is signed in as this user. No link exists.
        return _stop_because_of_other_account(request, backend, learner)
    try:
        user = create_account(learner, backend.name, Site.objects.get_current(request))
    except AccountRefused as refusal:
        if link := lookup.find_link(backend.name, uid):
            # The application has created the account since the sign-in began.
            return _sign_in_linked_account(request, backend, learner, link, user=None)
        log.warning("Sign-in stopped by %s (%s).", backend.name, refusal.code.value)
        return stop(
            request, Reason.from_refusal(refusal), backend.name, learner, detail=str(refusal)
        )
    link = lookup.find_link(backend.name, uid)
    return {"user": user, "social": link, "is_new": True, "new_association": True}


def require_link(
    strategy: Any,
    backend: Any,
    details: dict[str, Any],
    uid: str,
    *args: Any,
    user: Any = None,
    **kwargs: Any,
) -> HttpResponse | None:
    """Pipeline step: stop the sign-in unless ``user`` is the account the learner is linked to. None
    lets the pipeline continue."""
    if backend.name not in conf.backends() or _is_registration(strategy, details, user, uid):
        return None
    learner = _read_learner(details, kwargs.get("response") or {})
    if not _names_learner(details, uid):
        return _stop_without_username(strategy.request, backend, learner)
    link = lookup.find_link(backend.name, uid)
    if link is not None and link.user == user:
        return None
    return _stop_because_of_other_account(strategy.request, backend, learner)


def _names_learner(details: dict[str, Any], uid: str) -> bool:
    """Whether the application's answer has a username, and ``uid`` is this username.

    python-social-auth makes a text of any value: without a username, ``uid`` is ``None``, which may
    be another learner's username.
    """
    username = details.get("username")
    return isinstance(username, str) and username != "" and username == uid


def _stop_without_username(request: Any, backend: Any, learner: Learner) -> HttpResponse:
    """Stop the sign-in of somebody for whom the application has no username yet, or whose username
    it sent in an unknown form."""
    is_registering = learner.email and not learner.username
    reason = Reason.INCOMPLETE if is_registering else Reason.FAILED
    return stop(request, reason, backend.name, learner)


def _is_registration(strategy: Any, details: dict[str, Any], user: Any, uid: str) -> bool:
    """Whether the platform's registration API runs the pipeline. The API links the account that it
    has just created to the learner whose access token the request contains."""
    request = strategy.request
    if user is None or request is None or request.method != "POST":
        return False
    # An account that somebody has used, that has rights, or that is another person's is not new.
    is_existing = user.last_login or user.is_staff or user.is_superuser or user.username != uid
    is_new = not is_existing and _names_learner(details, uid)
    return request.path in LmsPath.REGISTRATIONS and is_new


def _sign_in_linked_account(
    request: Any, backend: Any, learner: Learner, link: Any, *, user: Any
) -> dict[str, Any] | HttpResponse:
    """The result of the step for a linked account; stops the sign-in if ``user`` is a different
    account. user: the account that an earlier step found, or None."""
    if user not in (None, link.user):
        return _stop_because_of_other_account(request, backend, learner)
    return {"user": link.user, "social": link, "is_new": False, "new_association": False}


def _stop_because_of_other_account(request: Any, backend: Any, learner: Learner) -> HttpResponse:
    """Stop the sign-in: the browser is signed in to another account, or, if it is signed in to
    none, another account has the learner's username or e-mail address."""
    current = request.user.get_username() if request.user.is_authenticated else ""
    reason = Reason.OTHER_ACCOUNT if current else Reason.TAKEN
    return stop(request, reason, backend.name, learner, current=current)


def _read_learner(details: dict[str, Any], response: dict[str, Any]) -> Learner:
    """The learner as the application describes them. The name is cut to the length of the
    platform's column; a country that the LMS doesn't know is left out."""
    username = str(details.get("username") or "")
    name = str(details.get("name") or details.get("fullname") or "").strip() or username
    country = response.get("country")
    is_known = isinstance(country, str) and conf.platform().country_is_known(country)
    return Learner(
        username=username,
        email=str(details.get("email") or ""),
        name=name[:FULL_NAME_MAX_LENGTH],
        country=str(country) if is_known else "",
    )
