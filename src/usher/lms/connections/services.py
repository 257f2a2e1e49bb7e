"""Identifies service workers, and the applications of users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from social_django.models import UserSocialAuth

from usher.lms.connections.models import ConnectedApplication, ServiceWorker
from usher.lms.connections.tokens import find_access_token
from usher.lms.errors import UsherLmsError


class UnknownApplication(UsherLmsError):
    """The request names an OAuth client other than the calling application's."""


@dataclass(frozen=True)
class Caller:
    """A service worker: its application, and its token's scopes (``read``, ``write``)."""

    application: ConnectedApplication
    scopes: frozenset[str]


class NotAServiceWorker(UsherLmsError):
    """The token is valid but must not call the batch API; the message says why."""


def is_service_worker(user: Any) -> bool:
    """Whether ``user`` is active staff and the service worker of a connected application."""
    if not (user and user.is_authenticated and user.is_active and user.is_staff):
        return False
    return ServiceWorker.objects.filter(user_id=user.pk, application__isnull=False).exists()


def identify_caller(token: Any) -> Caller:
    """The application and scopes of an access token. token: an unexpired row of the OAuth toolkit's
    model.

    The token must be a service worker's and belong to the OAuth client of the worker's
    application; tokens that other clients obtained for the same user are refused. Raises
    NotAServiceWorker.
    """
    user = token.user
    worker = (
        ServiceWorker.objects.select_related("application").filter(user_id=user.pk).first()
        if user is not None and user.is_active and user.is_staff
        else None
    )
    if worker is None:
        raise NotAServiceWorker(
            "Only a provisioned service worker may call this: active, staff, and named by "
            "usher_provision."
        )
    application = worker.application
    client_id = getattr(token.application, "client_id", None)
    if application is None or client_id != application.oauth_client_id:
        raise NotAServiceWorker(
            "This token does not belong to the OAuth client of a connected application; run "
            "`usher connect` again, or usher_provision."
        )
    return Caller(application, frozenset((token.scope or "").split()))


def is_service_worker_token(token: str, now: datetime) -> bool:
    """Whether ``token`` is a valid access token of a service worker with the scope ``write``."""
    row = find_access_token(token)
    if row is None or row.expires <= now:
        return False
    try:
        return "write" in identify_caller(row).scopes
    except NotAServiceWorker:
        return False


def check_client_id(application: ConnectedApplication, oauth_client_id: str) -> None:
    """Raises UnknownApplication unless ``oauth_client_id`` is '' or the application's own."""
    if oauth_client_id and oauth_client_id != application.oauth_client_id:
        raise UnknownApplication(
            f"this client_id is not that of {application.name}, whose service worker is calling; "
            "correct it, or run `usher connect` again"
        )


def is_protected(user: Any) -> bool:
    """Whether the user is staff, a superuser or a service worker. No service worker may change such
    a user or get the user's tokens. user: load it with ``usher_service_worker``, which saves a
    query."""
    return user.is_staff or user.is_superuser or hasattr(user, "usher_service_worker")


def applications_by_user(user_ids: Iterable[int]) -> dict[int, list[ConnectedApplication]]:
    """User id → the connected applications that sign this user in, without users whom none signs
    in."""
    by_backend = {
        application.backend: application for application in ConnectedApplication.objects.all()
    }
    links = UserSocialAuth.objects.filter(user_id__in=set(user_ids), provider__in=by_backend)
    applications: dict[int, list[ConnectedApplication]] = {}
    for user_id, backend in links.values_list("user_id", "provider"):
        if by_backend[backend] not in applications.setdefault(user_id, []):
            applications[user_id].append(by_backend[backend])
    return applications
