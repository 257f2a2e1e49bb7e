"""Tells Django of the checks."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Tags, register

from usher.application.checks import deploy, settings, urls, work

TAG = "usher"


@register(TAG)
def settings_are_right(**_: Any) -> list[CheckMessage]:
    return [*settings.messages(), *work.messages()]


@register(TAG, Tags.urls)
def addresses_are_there(**_: Any) -> list[CheckMessage]:
    """Nothing when the URLconf can't be read: Django's own checks name that."""
    return list(urls.messages())


@register(TAG, deploy=True)
def production_is_ready(**_: Any) -> list[CheckMessage]:
    return list(deploy.messages())
