"""The client of the LMS that the settings name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core import mail

from usher.application import conf
from usher.application.metrics.recorder import measure
from usher.client.client import Credentials, LmsClient
from usher.client.connection import is_substituted
from usher.client.http import Exchange, Http
from usher.client.shared import LocalState, RedisState, SharedState

_REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"


def client() -> LmsClient:
    """One client for this process, replaced when the settings change. Raises ImproperlyConfigured
    for malformed settings."""
    return _client(conf.settings(), redis_url(), requests_a_second())


@contextmanager
def _wrap_request(exchange: Exchange) -> Iterator[None]:
    """Measures one request. Refuses requests in tests that ``manage.py test`` runs, since these
    tests have the settings of the real LMS; in pytest, Usher's plugin refuses requests."""
    if _must_refuse_requests() and not is_substituted():
        from usher.testing.refusal import LmsTrafficRefused

        raise LmsTrafficRefused(conf.settings().api_base_url)
    with measure(exchange):
        yield


def _must_refuse_requests() -> bool:
    """Whether this process runs tests of ``manage.py test`` that may not send requests to the
    LMS."""
    # Django's ``setup_test_environment`` creates the outbox.
    is_test = hasattr(mail, "outbox") and "pytest" not in sys.modules
    return is_test and not getattr(django_settings, "USHER_LMS_TRAFFIC_IN_TESTS", False)


def requests_a_second() -> float:
    """``USHER_REQUESTS_A_SECOND``: the limit for all workers together to one LMS; 0 for none."""
    return float(getattr(django_settings, "USHER_REQUESTS_A_SECOND", 0) or 0)


def redis_url() -> str:
    """The address of the project's Redis: ``REDIS_URL``, or the Redis of the project's cache; ''
    for none."""
    if url := getattr(django_settings, "REDIS_URL", ""):
        return str(url)
    cache = django_settings.CACHES.get("default", {})
    if cache.get("BACKEND") != _REDIS_CACHE:
        return ""
    location = cache.get("LOCATION", "")
    if isinstance(location, list | tuple):
        location = location[0]  # of several servers, Django writes to the first
    return str(location)


@lru_cache(maxsize=4)
def _client(settings: conf.Settings, redis: str, per_second: float) -> LmsClient:
    http = Http(
        settings.api_base_url,
        browser_url=settings.base_redirect_url,
        timeout=settings.timeout_seconds,
        per_second=per_second,
        state=_state(redis, settings.api_base_url),
        wrap_request=_wrap_request,
    )
    credentials = Credentials(
        service_worker=settings.service_worker_username,
        service_token=settings.service_worker_api_token,
        client_id=settings.api_client_id,
        client_secret=settings.api_client_secret,
        backend=settings.oauth_provider,
        registration_token=settings.registration_access_token,
    )
    return LmsClient(http, credentials)


def _state(redis: str, base_url: str) -> SharedState:
    return RedisState(redis, urlsplit(base_url).netloc) if redis else LocalState()
