"""``manage.py check --deploy``: what production needs beyond a developer's machine."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.checks import Warning as WarningMessage

from usher.application import conf
from usher.application.defaults.database import SQLITE
from usher.application.engine.wake import broker_url


def messages() -> Iterator[CheckMessage]:
    found, _ = conf.read(django_settings)
    for name, address in (
        ("SITE_BASE_URL", found.site_base_url),
        ("OPENEDX_BASE_REDIRECT_URL", found.base_redirect_url),
    ):
        if address.startswith("http://"):
            yield WarningMessage(
                f"{name} is {address}: codes and passwords would travel unencrypted.",
                hint="Use an https address.",
                id="usher.W024",
            )
    for name in conf.missing():
        yield WarningMessage(f"{name} is not set.", hint="Run `usher connect`.", id="usher.W025")
    if not found.encryption_keys:
        yield WarningMessage(
            "USHER_ENCRYPTION_KEYS is not set: learners' tokens are encrypted with a key that "
            "SECRET_KEY gives, so a new SECRET_KEY makes them unreadable.",
            hint='Make one: python -c "from cryptography.fernet import Fernet; '
            'print(Fernet.generate_key().decode())"',
            id="usher.W020",
        )
    if not found.webhook_secret:
        yield WarningMessage(
            "USHER_WEBHOOK_SECRET is not set: changes in the LMS are only seen by the next "
            "comparison.",
            hint="Run `usher connect`.",
            id="usher.W021",
        )
    yield from _processes()


def _processes() -> Iterator[CheckMessage]:
    if any(one.get("ENGINE") == SQLITE for one in django_settings.DATABASES.values()):
        yield WarningMessage(
            "The database is SQLite, which one machine can use.",
            hint="Use PostgreSQL: pip install 'openedx-usher[postgresql]'",
            id="usher.W022",
        )
    cache = django_settings.CACHES.get("default", {}).get("BACKEND", "")
    has_redis = getattr(django_settings, "REDIS_URL", "") or "redis" in cache
    if broker_url() and not has_redis:
        yield WarningMessage(
            "Several processes share no memory: each has rate limits and a request budget of its "
            "own.",
            hint="Set REDIS_URL, or a Redis cache.",
            id="usher.W023",
        )
