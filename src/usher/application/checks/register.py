"""Registers the checks with Django."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Tags, register

from usher.application.checks import deploy, settings, urls, work
from usher.application.checks.layout import wrap_messages

TAG = "usher"


@register(TAG)
def settings_are_valid(**_: Any) -> list[CheckMessage]:
    return wrap_messages([*settings.messages(), *work.messages()])


@register(TAG, Tags.urls)
def urls_resolve(**_: Any) -> list[CheckMessage]:
    """Does not run if the URLconf can't be imported, which Django's own checks report."""
    return wrap_messages(urls.messages())


@register(TAG, deploy=True)
def production_is_ready(**_: Any) -> list[CheckMessage]:
    return wrap_messages([*settings.deploy_messages(), *urls.deploy_messages(), *deploy.messages()])
