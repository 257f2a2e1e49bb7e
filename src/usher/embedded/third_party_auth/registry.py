"""The providers that are enabled on the current site, and the provider of an unfinished sign-in."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from social_django import utils

from usher.embedded.third_party_auth.models import OAuth2ProviderConfig, oauth_backend_names


def is_enabled() -> bool:
    return bool(settings.FEATURES.get("ENABLE_THIRD_PARTY_AUTH"))


def enabled_records() -> Iterator[OAuth2ProviderConfig]:
    """Current records that are enabled on this site and whose backend is installed."""
    names = set(OAuth2ProviderConfig.objects.values_list("backend_name", flat=True))
    for name in sorted(names):
        record = OAuth2ProviderConfig.current(name)
        if record.enabled_for_current_site and name in oauth_backend_names():
            yield record


def find_by_id(provider_id: str) -> OAuth2ProviderConfig | None:
    """The enabled provider with this id (``oa2-…``), or None. Raises ValueError if the id is
    malformed."""
    if not provider_id:
        return None
    if "-" not in provider_id:
        raise ValueError("Invalid provider_id. Expect something like oa2-google")
    return next(
        (provider for provider in enabled_records() if provider.provider_id == provider_id), None
    )


def find_by_backend(backend_name: str) -> OAuth2ProviderConfig | None:
    """The enabled provider with this backend, or None."""
    return next(
        (provider for provider in enabled_records() if provider.backend_name == backend_name), None
    )


def running_pipeline(request: HttpRequest) -> dict[str, Any] | None:
    """``{"kwargs", "backend"}`` of this browser's unfinished sign-in, or None."""
    strategy = utils.load_strategy(request)
    token = strategy.session_get("partial_pipeline_token")
    if not token:
        # python-social-auth deletes this token when it resumes the pipeline. The step
        # ``ensure_user_information`` keeps a copy.
        strategy.session_set(
            "partial_pipeline_token", strategy.session_get("partial_pipeline_token_")
        )
        token = strategy.session_get("partial_pipeline_token")
    partial = strategy.partial_load(token) if token else None
    return {"kwargs": partial.kwargs, "backend": partial.backend} if partial else None


def provider_of_running_pipeline(request: HttpRequest) -> OAuth2ProviderConfig | None:
    """The provider of this browser's unfinished sign-in, or None."""
    unfinished_sign_in = running_pipeline(request)
    return find_by_backend(unfinished_sign_in["backend"]) if unfinished_sign_in else None
