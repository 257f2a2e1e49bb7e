"""Celery finds tasks in this module with plain ``app.autodiscover_tasks()``."""

from usher.application.engine.tasks import sweep, sync_all_runs, work, work_share
from usher.application.provider.tasks import deliver_sign_outs, forget_old

__all__ = [
    "deliver_sign_outs",
    "forget_old",
    "sweep",
    "sync_all_runs",
    "work",
    "work_share",
]
