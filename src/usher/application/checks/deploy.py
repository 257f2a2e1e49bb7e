"""``manage.py check --deploy``: settings for production that a developer does not need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.checks import Warning as WarningMessage

from usher.application import conf
from usher.application.adapter import digest_minutes
from usher.application.defaults.database import SQLITE
from usher.engine.notify import broker_url


def messages() -> Iterator[CheckMessage]:
    settings_read, _ = conf.read(django_settings)
    for name, address in (
        ("SITE_BASE_URL", settings_read.site_base_url),
        # Until an LMS is connected, its address is only a default.
        ("OPENEDX_BASE_REDIRECT_URL", "" if conf.missing() else settings_read.base_redirect_url),
    ):
        if address.startswith("http://"):
            yield WarningMessage(
                f"{name} is {address}: codes and passwords would travel unencrypted.",
                hint="Use an https address.",
                id="usher.W024",
            )
    if not settings_read.encryption_keys:
        yield WarningMessage(
            "USHER_ENCRYPTION_KEYS is not set: learners' tokens are encrypted with a key that is "
            "derived from SECRET_KEY, so a new SECRET_KEY makes them unreadable.",
            hint="Set USHER_ENCRYPTION_KEYS in the environment or in .env, and keep a copy of it:\n"
            "$ echo USHER_ENCRYPTION_KEYS=$(openssl rand -base64 32 | tr +/ -_) >> .env",
            id="usher.W020",
        )
    if not settings_read.webhook_secret:
        yield WarningMessage(
            "USHER_WEBHOOK_SECRET is not set: webhooks of the LMS are not accepted, so changes in "
            "the LMS are found only by the next comparison.",
            hint="Run `usher connect`.",
            id="usher.W021",
        )
    if not django_settings.MANAGERS and digest_minutes():
        yield WarningMessage(
            "MANAGERS is empty: no mail is sent when the LMS refuses an account or an enrollment.",
            hint="Set MANAGERS to the addresses of your support staff, or USHER_DIGEST_MINUTES "
            "to 0.",
            id="usher.W028",
        )
    yield from _client_address_header()
    yield from _sharing_of_processes()


def _client_address_header() -> Iterator[CheckMessage]:
    """The setting by which rate limits distinguish visitors behind a proxy."""
    header = str(getattr(django_settings, "USHER_CLIENT_ADDRESS_HEADER", "") or "")
    if header and not re.fullmatch(r"[A-Za-z0-9-]+", header):
        yield WarningMessage(
            f"USHER_CLIENT_ADDRESS_HEADER is {header!r}, which is not the name of a header: all "
            "visitors share one rate limit.",
            hint="Write it as in the protocol, such as X-Real-IP.",
            id="usher.W027",
        )
    if header:
        return
    has_proxy = bool(
        getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None)
        or getattr(django_settings, "USE_X_FORWARDED_HOST", False)
    )
    where = "behind your proxy" if has_proxy else "behind a proxy"
    yield WarningMessage(
        f"USHER_CLIENT_ADDRESS_HEADER is not set: {where}, all visitors have the proxy's address "
        "and share one rate limit, so a single visitor can lock out all others.",
        hint="Set it to the name of the header that the proxy sets to the visitor's address and "
        "removes from visitors' requests, such as X-Real-IP. Without a proxy, silence this "
        'check: SILENCED_SYSTEM_CHECKS = ["usher.W026"]',
        id="usher.W026",
    )


def _sharing_of_processes() -> Iterator[CheckMessage]:
    """What processes on several machines must share: the database and, in Redis, rate limits."""
    if any(database.get("ENGINE") == SQLITE for database in django_settings.DATABASES.values()):
        yield WarningMessage(
            "The database is SQLite, which only processes on one machine can use.",
            hint="Use PostgreSQL: pip install 'openedx-usher[postgresql]'",
            id="usher.W022",
        )
    cache = django_settings.CACHES.get("default", {}).get("BACKEND", "")
    has_redis = getattr(django_settings, "REDIS_URL", "") or "redis" in cache
    if broker_url() and not has_redis:
        yield WarningMessage(
            "Without Redis, each process has its own rate limits and its own budget of requests to "
            "the LMS.",
            hint="Set REDIS_URL, such as redis://localhost:6379/1, or a Redis cache.",
            id="usher.W023",
        )
