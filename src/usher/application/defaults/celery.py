"""Celery's settings, and the schedule of Usher's periodic tasks."""

from __future__ import annotations

from typing import Any

_ENGINE = "usher.engine.tasks"
_RUNS = "usher.application.runs.tasks"
_PROVIDER = "usher.application.provider.tasks"
#: The task that finds rows whose message was lost.
SWEEP = f"{_ENGINE}.sweep"
#: The task's name in earlier versions, in which the engine was part of ``usher.application``.
#: Messages with this name are still processed.
FORMER_SWEEP = "usher.application.engine.tasks.sweep"
SWEEP_SECONDS, SYNC_RUNS_SECONDS = 60.0, 3600.0


def beat_schedule(
    *, sweep_seconds: float = SWEEP_SECONDS, sync_runs_seconds: float = SYNC_RUNS_SECONDS
) -> dict[str, dict[str, Any]]:
    """Entries for ``CELERY_BEAT_SCHEDULE``. sweep_seconds, sync_runs_seconds: how often to sweep,
    and how often to sync all course runs."""
    return {
        "usher: sweep": {"task": SWEEP, "schedule": sweep_seconds},
        "usher: course runs": {
            "task": f"{_RUNS}.sync_all_runs",
            "schedule": sync_runs_seconds,
        },
        "usher: sign-outs": {"task": f"{_PROVIDER}.deliver_sign_outs", "schedule": 60.0},
        "usher: old rows": {"task": f"{_PROVIDER}.forget_old", "schedule": 6 * 3600.0},
    }


def celery(broker_url: str) -> dict[str, Any]:
    """``CELERY_*`` settings for ``app.config_from_object(..., namespace="CELERY")``."""
    return {
        "CELERY_BROKER_URL": broker_url,
        "CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP": True,
        "CELERY_BEAT_SCHEDULE": beat_schedule(),
    }
