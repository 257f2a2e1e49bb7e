"""The reference application with an empty in-memory database at the start of every seed."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from simulation import lms
from usher.cli.demo.database import migrated_database

ROOT = Path(__file__).resolve().parent.parent
LMS_URL = "http://lms.example"
LEASE_SECONDS = 60.0

_SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "campus.settings",
    "SITE_BASE_URL": lms.SITE,
    "OPENEDX_API_BASE_URL": LMS_URL,
    "OPENEDX_BASE_REDIRECT_URL": LMS_URL,
    "OPENEDX_OAUTH_PROVIDER": "mitxpro-oauth2",
    "OPENEDX_API_CLIENT_ID": lms.OAUTH_CLIENT_ID,
    "OPENEDX_API_CLIENT_SECRET": lms.OAUTH_CLIENT_SECRET,
    "OPENEDX_SERVICE_WORKER_USERNAME": "service-worker",
    "OPENEDX_SERVICE_WORKER_API_TOKEN": lms.SERVICE_TOKEN,
    "EDX_API_CLIENT_TIMEOUT": "60",
    "USHER_CONCURRENCY": "3",
    "USHER_LEASE_SECONDS": str(LEASE_SECONDS),
    "DATABASE_URL": "",
    "REDIS_URL": "",
    "CELERY_BROKER_URL": "",
    "SUPPORT_EMAIL": "",
}


@functools.cache
def set_up() -> bytes:
    """Sets up Django, once. Returns the serialized SQLite database with which every seed starts."""
    home = Path(tempfile.mkdtemp(prefix="usher-simulation-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= _SETTINGS
    os.environ |= {"CAMPUS_HOME": str(home), "CAMPUS_ENV_FILE": str(home / "none.env")}
    for folder in (ROOT / "campus", ROOT / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    import django
    from django.conf import settings

    settings.DATABASES["default"] |= {"NAME": ":memory:", "OPTIONS": {}}
    settings.LOGGING_CONFIG = None
    django.setup()
    logging.disable(logging.CRITICAL)
    from django.db import connection

    connection.ensure_connection()
    connection.connection.deserialize(migrated_database(ROOT / "campus").read_bytes())
    # Makes Django lock rows as on PostgreSQL, so that the order of locks is checked: see
    # ``simulation.locks``.
    features: Any = connection.features
    features.has_select_for_update = True
    from usher.application.provider.clients import ensure_client
    from usher.contract.oauth import EDX_OAUTH_APP, lms_redirect_uri

    ensure_client(
        EDX_OAUTH_APP,
        [lms_redirect_uri(LMS_URL, "mitxpro-oauth2")],
        client_id=lms.CLIENT_ID,
        client_secret="secret",
    )
    return connection.connection.serialize()


def reset() -> None:
    """Restore the database with which every seed starts, and clear all caches."""
    from django.core.cache import cache
    from django.db import connection

    from usher.application import retention
    from usher.application.metrics import conditions
    from usher.application.metrics.recorder import recorder as metrics
    from usher.console.recording.services import recorder
    from usher.engine import heartbeat
    from usher.engine.outages import outages

    image = set_up()
    connection.ensure_connection()
    connection.connection.deserialize(image)
    cache.clear()
    heartbeat._last_beat = 0.0  # never
    retention._last_removal = float("inf")  # no sweep removes old data
    outages.forget()
    recorder._reset()
    metrics.forget()
    conditions._recorded.clear()
    conditions._read_at = -conditions._SECONDS_BETWEEN_READS  # the next read is due
