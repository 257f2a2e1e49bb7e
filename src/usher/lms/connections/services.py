"""Who is connected, and who calls as the service worker."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from social_django.models import UserSocialAuth

from usher.lms.connections.models import ConnectedApplication, ServiceWorker
from usher.lms.connections.tokens import find_access_token
from usher.lms.errors import UsherLmsError


class UnknownApplication(UsherLmsError):
    """No connected application is meant, or more than one."""


def is_service_worker(user: Any) -> bool:
    """Whether ``user`` is active staff and one of the provisioned service workers."""
    if not (user and user.is_authenticated and user.is_active and user.is_staff):
        return False
    return ServiceWorker.objects.filter(user_id=user.pk).exists()


def is_service_worker_token(token: str, now: datetime) -> bool:
    """Whether ``token`` is a valid access token of a service worker."""
    found = find_access_token(token)
    return found is not None and found.expires > now and is_service_worker(found.user)


def application_for(oauth_client_id: str = "") -> ConnectedApplication:
    """The application whose OAuth client at this LMS is ``oauth_client_id``; without one, the only
    one connected."""
    if oauth_client_id:
        found = ConnectedApplication.objects.filter(oauth_client_id=oauth_client_id).first()
        if found is None:
            raise UnknownApplication(
                "no connected application has this client_id; provision it, or correct the id"
            )
        return found
    connected = list(ConnectedApplication.objects.all()[:2])
    if len(connected) != 1:
        raise UnknownApplication(
            "no application is connected to this LMS; run usher_provision"
            if not connected
            else "several applications are connected to this LMS; name one by client_id"
        )
    return connected[0]


def applications_by_user(user_ids: Iterable[int]) -> dict[int, list[ConnectedApplication]]:
    """The connected applications that sign each of these users in."""
    by_backend = {found.backend: found for found in ConnectedApplication.objects.all()}
    links = UserSocialAuth.objects.filter(user_id__in=set(user_ids), provider__in=by_backend)
    found: dict[int, list[ConnectedApplication]] = {}
    for user_id, backend in links.values_list("user_id", "provider"):
        if by_backend[backend] not in found.setdefault(user_id, []):
            found[user_id].append(by_backend[backend])
    return found
