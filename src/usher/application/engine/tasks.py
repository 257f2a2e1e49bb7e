"""Celery only wakes and spreads the work; what is to be done is in the rows."""

from __future__ import annotations

from celery import shared_task
from django.db.models import Max, Min

from usher.application.engine.kinds import NAMES, all_kinds
from usher.application.engine.services import reconcile, sweep_prepare

#: Ids to one task of a sweep.
PARTITION = 20_000


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work() -> None:
    """Works off what is due, whatever it is."""
    reconcile()


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work_range(kind: str, first_id: int, end_id: int) -> None:
    """Works off what is due of one kind within a range of ids, the end not included."""
    reconcile([kind], ids=(first_id, end_id))


@shared_task(acks_late=True, ignore_result=True)
def sweep() -> None:
    """By beat: finds whatever a lost wake-up left, and spreads it over the workers."""
    sweep_prepare()
    for name in NAMES:
        due = all_kinds()[name].rows().due()
        ends = due.aggregate(first=Min("pk"), last=Max("pk"))
        if ends["first"] is None:
            continue
        for first in range(ends["first"], ends["last"] + 1, PARTITION):
            if due.filter(pk__gte=first, pk__lt=first + PARTITION).exists():
                work_range.delay(name, first, first + PARTITION)


@shared_task(acks_late=True, ignore_result=True)
def sync_all_runs() -> None:
    """By beat: runs and what changed in them."""
    from usher.application.runs.services import sync_runs

    sync_runs()
