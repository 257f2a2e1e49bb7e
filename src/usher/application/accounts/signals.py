"""Signal handlers: changes and deletions of users are sent to the LMS."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models.signals import post_save, pre_delete

from usher.application.accounts import services
from usher.application.accounts.models import LmsAccount

#: A save of these fields only, as at each sign-in, is ignored. The project's adapter may read any
#: other field.
_NEVER_SENT = {"last_login", "password"}


def connect() -> None:
    """Connects the handlers; with django-allauth, also the handler for confirmed e-mail
    addresses."""
    user_model = get_user_model()
    post_save.connect(_on_saved, sender=user_model, dispatch_uid="usher.learner.saved")
    pre_delete.connect(_on_deleted, sender=user_model, dispatch_uid="usher.learner.deleted")
    if apps.is_installed("allauth.account"):
        from allauth.account.signals import email_confirmed

        email_confirmed.connect(_on_confirmed, dispatch_uid="usher.learner.confirmed")


def _on_confirmed(email_address: Any, **_kwargs: Any) -> None:
    services.retry_after_confirmation(email_address.user)


def _on_saved(instance: Any, created: bool, update_fields: Any = None, **kwargs: Any) -> None:
    """Passes changes of a user who has an account row to the LMS. Requests no account for a new
    user."""
    is_fixture = kwargs.get("raw")  # Django's word for a row that ``loaddata`` saves
    if created or is_fixture or (update_fields and set(update_fields) <= _NEVER_SENT):
        return
    account = LmsAccount.objects.filter(user=instance).first()
    if account is None:
        return
    if account.is_active != instance.is_active:
        services.set_active(instance, active=instance.is_active)
    if account.is_ready:
        services.follow_profile(instance)


def _on_deleted(instance: Any, **_kwargs: Any) -> None:
    services.retire(instance)
