"""Removes access to an account, when an operator links it, or another, to a learner.

Somebody else may have registered it with the learner's name and address. They know its password,
and have sessions, tokens and other ways to sign in.
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
from usher.lms.signout.services import end_sessions_of


def take_from_learner(link: UserSocialAuth) -> None:
    """Ends the access of an application's learner to an account that isn't theirs. The account's
    password and its other links stay; its sessions end, as nobody knows whose they are."""
    end_sessions_of(link.user)
    ours = ConnectedApplication.objects.filter(backend=link.provider).values("oauth_client_id")
    for model in (get_refresh_token_model(), get_access_token_model(), get_grant_model()):
        model.objects.filter(user=link.user, application__client_id__in=ours).delete()
    link.delete()


def take_from_everybody(user: Any) -> None:
    """A new random password; no session, token, recovery address or other link lives on."""
    # Django ends every session whose password has changed, also unrecorded ones.
    user.password = random_password_hash()
    user.save(update_fields=["password"])
    end_sessions_of(user)
    for model in (get_refresh_token_model(), get_access_token_model(), get_grant_model()):
        model.objects.filter(user=user).delete()
    if apps.is_installed("rest_framework.authtoken"):
        apps.get_model("authtoken", "Token").objects.filter(user=user).delete()  # type: ignore[misc]
    ours = ConnectedApplication.objects.values("backend")
    UserSocialAuth.objects.filter(user=user).exclude(provider__in=ours).delete()
    conf.platform().forget_recovery(user)
