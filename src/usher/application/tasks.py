"""The module in which Celery's ``app.autodiscover_tasks()`` finds the tasks."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import beat_embedded_init, beat_init

from usher.application.provider.tasks import deliver_sign_outs, forget_old
from usher.application.runs.tasks import sync_all_runs
from usher.engine.tasks import sweep, work, work_share

__all__ = [
    "deliver_sign_outs",
    "forget_old",
    "sweep",
    "sync_all_runs",
    "work",
    "work_share",
]

#: The module in earlier names of tasks. Messages that were sent before an upgrade, and a project's
#: own beat schedule, may still have these names.
_FORMER = "usher.application.engine.tasks"


def _keep_former_name(task: Any, name: str) -> None:
    @shared_task(
        name=f"{_FORMER}.{name}", acks_late=True, reject_on_worker_lost=True, ignore_result=True
    )
    def former(*arguments: Any, **named: Any) -> None:
        task(*arguments, **named)


_keep_former_name(work, "work")
_keep_former_name(work_share, "work_share")
_keep_former_name(sweep, "sweep")
_keep_former_name(sync_all_runs, "sync_all_runs")


@beat_init.connect
@beat_embedded_init.connect
def sweep_at_the_start(**_kwargs: Any) -> None:
    """Requests a sweep when beat starts, since beat itself sends a task for the first time after
    its interval. Without this, pages would say for a minute that no worker is running."""
    sweep.apply_async(retry=False)
