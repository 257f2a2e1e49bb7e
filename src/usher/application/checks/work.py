"""Settings that the sync worker needs: Celery, and the database that processes share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as WarningMessage

from usher.application.defaults.celery import FORMER_SWEEP, SWEEP
from usher.application.defaults.database import SQLITE

_HINT_FOR_CELERY_APP = (
    "In the package of settings.py: celery.py with app = Celery(...), "
    'app.config_from_object("django.conf:settings", namespace="CELERY") and '
    "app.autodiscover_tasks(), and in __init__.py: from .celery import app as celery_app"
)


def messages() -> Iterator[CheckMessage]:
    yield from _celery()
    yield from _redis()
    yield from _sqlite()


def _celery() -> Iterator[CheckMessage]:
    broker = str(getattr(django_settings, "CELERY_BROKER_URL", "") or "")
    if not broker or broker.startswith("memory:"):
        return
    if find_spec("celery") is None:
        yield Error(
            "CELERY_BROKER_URL is set, but Celery is not installed.",
            hint="pip install 'openedx-usher[celery]'",
            id="usher.E013",
        )
        return
    from celery import current_app

    if not _is_broker(django_settings.CELERY_BROKER_URL):
        yield Error(
            "CELERY_BROKER_URL is not the address of a broker.",
            hint="Write an address such as redis://localhost:6379/0.",
            id="usher.E020",
        )
        return
    # Celery creates an app called "default" if the project has no app of its own.
    if current_app.main == "default" or str(current_app.conf.broker_url or "") != broker:
        yield Error(
            "CELERY_BROKER_URL is set, but this process has no Celery app that uses it: tasks "
            "never reach a worker, so nobody is enrolled.",
            hint=_HINT_FOR_CELERY_APP,
            id="usher.E014",
        )
        return
    yield from _schedule(current_app)


def _is_broker(url: Any) -> bool:
    """Whether Celery has a transport for this address. Also True for lists and for transports of
    other packages, which are not examined."""
    from kombu.transport import TRANSPORT_ALIASES

    if not isinstance(url, str):
        return True
    scheme, separator, _ = url.partition("://")
    is_known = scheme.partition("+")[0] in TRANSPORT_ALIASES or "." in scheme or ":" in scheme
    return is_known and bool(separator)


def _redis() -> Iterator[CheckMessage]:
    if getattr(django_settings, "REDIS_URL", "") and find_spec("redis") is None:
        yield Error(
            "REDIS_URL is set, but the Redis client is not installed.",
            hint="pip install 'openedx-usher[redis]'",
            id="usher.E021",
        )


def _schedule(app: Any) -> Iterator[CheckMessage]:
    scheduled_tasks = {entry.get("task") for entry in (app.conf.beat_schedule or {}).values()}
    if not scheduled_tasks & {SWEEP, FORMER_SWEEP}:
        yield WarningMessage(
            f"Celery's beat schedule lacks {SWEEP}: a record whose message was lost is never "
            "processed.",
            hint="CELERY_BEAT_SCHEDULE = defaults.beat_schedule() | {...}",
            id="usher.W005",
        )


def _sqlite() -> Iterator[CheckMessage]:
    for alias, database in django_settings.DATABASES.items():
        if database.get("ENGINE") != SQLITE:
            continue
        mode = str(database.get("OPTIONS", {}).get("transaction_mode", "")).upper()
        if mode not in {"IMMEDIATE", "EXCLUSIVE"}:
            yield WarningMessage(
                f"DATABASES[{alias!r}] is SQLite without transaction_mode IMMEDIATE: a web "
                "process and a worker that write at the same time get 'database is locked'.",
                hint=f'DATABASES["{alias}"]["OPTIONS"] = defaults.sqlite_options()',
                id="usher.W006",
            )
