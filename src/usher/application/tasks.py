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
_FORMER_MODULE = "usher.application.engine.tasks"


def _register_former_name(task: Any, name: str) -> None:
    """Registers a task with the earlier name, which calls ``task``."""

    @shared_task(
        name=f"{_FORMER_MODULE}.{name}",
        acks_late=True,
        reject_on_worker_lost=True,
        ignore_result=True,
    )
    def task_of_former_name(*arguments: Any, **named: Any) -> None:
        task(*arguments, **named)


_register_former_name(work, "work")
_register_former_name(work_share, "work_share")
_register_former_name(sweep, "sweep")
_register_former_name(sync_all_runs, "sync_all_runs")


@beat_init.connect
@beat_embedded_init.connect
def sweep_at_the_start(**_kwargs: Any) -> None:
    """Requests a sweep when beat starts, since beat sends a task only after its first interval.
    Otherwise pages would say for a minute that no worker is running."""
    sweep.apply_async(retry=False)
