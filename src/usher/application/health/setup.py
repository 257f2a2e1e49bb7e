"""Doctor's facts about this process: the settings it reads, allowed redirects, and Celery."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from oauth2_provider.settings import oauth2_settings

from usher.application.health.configuration import settings_in_use
from usher.contract.application_report import Celery
from usher.contract.environment import ALL_KEYS

#: The ends of the names of tasks that a worker must have registered, and of the task that beat must
#: start.
_TASK_SUFFIXES = ("engine.tasks.work", "engine.tasks.work_share", "engine.tasks.sweep")
_SWEEP_SUFFIX = "engine.tasks.sweep"
_ANSWER_SECONDS = 1.5


def facts() -> dict[str, Any]:
    """The part of ``ApplicationReport`` about this process, by the report's keys. Takes up to some
    seconds with Celery."""
    result: dict[str, Any] = {
        "read": sorted(settings_in_use()),
        "environment": sorted(key for key in ALL_KEYS if os.environ.get(key)),
        "redirect_schemes": list(oauth2_settings.ALLOWED_REDIRECT_URI_SCHEMES),
    }
    if broker_url() and find_spec("celery"):
        result["celery"] = celery_state()
    return result


def broker_url() -> str:
    """The broker's address; '' for none, and for a broker in this process's memory."""
    url = str(getattr(settings, "CELERY_BROKER_URL", "") or "")
    return "" if url.startswith("memory:") else url


def celery_state() -> Celery:
    """The state of the workers that answer within ``_ANSWER_SECONDS``, and whether Celery beat
    starts the sweep."""
    from celery import current_app

    scheduled = {str(entry.get("task")) for entry in current_app.conf.beat_schedule.values()}
    result: Celery = {"is_scheduled": any(name.endswith(_SWEEP_SUFFIX) for name in scheduled)}
    try:
        registered = current_app.control.inspect(timeout=_ANSWER_SECONDS).registered() or {}
    except Exception as error:  # noqa: BLE001 - every transport has errors of its own
        return {**result, "error": type(error).__name__}
    task_names = set()
    for names in registered.values():
        # After a space, Celery names options of the task, such as its rate limit.
        task_names |= {name.split(" ")[0] for name in names}
    missing = []
    if registered:
        for suffix in _TASK_SUFFIXES:
            if not any(name.endswith(suffix) for name in task_names):
                missing.append(suffix)
    return {**result, "workers": len(registered), "missing_tasks": missing}
