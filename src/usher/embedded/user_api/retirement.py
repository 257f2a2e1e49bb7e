"""Account retirement: requests, which a pipeline of the operator completes later.

Follows ``user_api/accounts/utils.py`` and ``bulk_user_retirement/views.py`` of the platform.
"""

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from oauth2_provider.models import get_access_token_model, get_refresh_token_model
from rest_framework import permissions
from rest_framework.response import Response
from rest_framework.views import APIView
from social_django.models import UserSocialAuth

from usher.embedded.student.models import Registration, retired_email, retired_username
from usher.embedded.user_api.models import (
    RetirementState,
    UserRetirementRequest,
    UserRetirementStatus,
)

log = logging.getLogger(__name__)


class RetirementStateError(Exception):
    """The account can't be retired: a retirement is in progress, or the LMS has no retirement
    states."""


class CanRetireUser(permissions.BasePermission):
    """The service account that the setting names, superusers, and staff with the permission."""

    def has_permission(self, request: Any, view: Any) -> bool:
        user = request.user
        is_retirement_worker: bool = user.username == settings.RETIREMENT_SERVICE_WORKER_USERNAME
        return (
            is_retirement_worker
            or user.is_superuser
            or (user.is_staff and user.has_perm("user_api.add_userretirementrequest"))
        )


class BulkUsersRetirementView(APIView):
    """``POST /v1/accounts/bulk_retire_users``, available with a feature flag only."""

    permission_classes = (permissions.IsAuthenticated, CanRetireUser)

    def post(self, request: Any) -> Response:
        """Answers 200 with two lists: the usernames that were retired, and those that failed."""
        words = request.data.get("usernames") or ""
        usernames = [word.strip() for word in words.split(",")] if words else []
        failed = []
        for username in usernames:
            try:
                with transaction.atomic():
                    request_retirement(User.objects.get(username=username))
            except (User.DoesNotExist, RetirementStateError):
                log.warning("%s can't be retired", username, exc_info=True)
                failed.append(username)
        return Response(
            {
                "successful_user_retirements": sorted(set(usernames) - set(failed)),
                "failed_user_retirements": failed,
            }
        )


def populate_states() -> None:
    """Create the missing retirement states, as the platform's command
    ``populate_retirement_states`` does. The order numbers have gaps for the operator's own
    states."""
    for index, name in enumerate(settings.RETIREMENT_STATES):
        is_final = name in ("ERRORED", "ABORTED", "COMPLETE")
        RetirementState.objects.get_or_create(
            state_name=name,
            defaults={
                "state_execution_order": 10 * index + 1,
                "is_dead_end_state": is_final,
                "required": is_final or name == "PENDING",
            },
        )


@transaction.atomic
def request_retirement(user: User) -> None:
    """Close the account and queue its retirement. Raises RetirementStateError."""
    pending = RetirementState.objects.first()  # in the order of execution: PENDING
    if pending is None:
        raise RetirementStateError(
            "Default state does not exist! Populate retirement states to retire users."
        )
    if UserRetirementStatus.objects.filter(user=user).exists():
        raise RetirementStateError(f"User {user} already has a retirement status row!")
    UserRetirementRequest.objects.create(user=user)
    UserRetirementStatus.objects.create(
        user=user,
        original_username=user.username,
        original_email=user.email,
        original_name=user.profile.name,
        retired_username=retired_username(user.username),
        retired_email=retired_email(user.email),
        current_state=pending,
        last_state=pending,
        responses=f"Created in state {pending} by create_retirement",
    )
    close_account(user)


def close_account(user: User) -> None:
    """Delete the account's links, activation key, tokens and password, and replace its e-mail
    address, so that nobody can sign in."""
    UserSocialAuth.objects.filter(user=user).delete()
    Registration.objects.filter(user=user).delete()
    get_refresh_token_model().objects.filter(user=user).delete()
    get_access_token_model().objects.filter(user=user).delete()
    user.email = retired_email(user.email)
    user.set_unusable_password()
    user.save()
