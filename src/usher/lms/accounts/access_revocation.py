"""Revokes access to an account when an operator links or unlinks it.

Somebody else may have registered the account with the learner's username and e-mail address. That
person would know its password, and have sessions, tokens and other ways to sign in.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from oauth2_provider.models import (
    get_access_token_model,
    get_grant_model,
    get_refresh_token_model,
)
from social_django.models import UserSocialAuth

from usher.lms import conf
from usher.lms.accounts.passwords import random_password_hash
from usher.lms.connections.models import ConnectedApplication
from usher.lms.signout.services import end_all_sessions


def revoke_learner_access(link: UserSocialAuth) -> None:
    """Delete ``link``, the application's tokens for the linked account, and all sessions of that
    account, because a session does not show which person opened it. The password and other links
    stay."""
    end_all_sessions(link.user)
    own_clients = ConnectedApplication.objects.filter(backend=link.provider).values(
        "oauth_client_id"
    )
    for model in (get_refresh_token_model(), get_access_token_model(), get_grant_model()):
        model.objects.filter(user=link.user, application__client_id__in=own_clients).delete()
    link.delete()


def revoke_all_access(user: Any) -> None:
    """Set a random password, and delete all sessions, tokens and recovery addresses of ``user``,
    and links to providers that aren't connected applications."""
    # The new password ends all Django sessions of the user, including those that Usher has not
    # recorded.
    user.password = random_password_hash()
    user.save(update_fields=["password"])
    end_all_sessions(user)
    for model in (get_refresh_token_model(), get_access_token_model(), get_grant_model()):
        model.objects.filter(user=user).delete()
    if apps.is_installed("rest_framework.authtoken"):
        apps.get_model("authtoken", "Token").objects.filter(user=user).delete()  # type: ignore[misc]
    own_backends = ConnectedApplication.objects.values("backend")
    UserSocialAuth.objects.filter(user=user).exclude(provider__in=own_backends).delete()
    conf.platform().delete_recovery_addresses(user)
