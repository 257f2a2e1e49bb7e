"""Celery only wakes workers and spreads the work; what is to be done is in the rows.

A sweep sends each kind as many messages as its due rows are worth, and none that is still
outstanding: the queue doesn't grow while workers are busy or gone. A message is worked on for a
limited time, so that a worker soon takes the next one; what is left is sent again.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from usher.engine import heartbeat, outstanding
from usher.engine.clock import moment
from usher.engine.outlook import count_due
from usher.engine.registry import all_kinds
from usher.engine.services import reconcile, sweep_prepare
from usher.engine.stopping import SharedStop, StopAfter
from usher.engine.work import due

#: Messages of one kind at a time, and due rows that are worth one.
SHARES = 8
ROWS_A_SHARE = 1000
#: Seconds for which one message is worked on.
SHARE_SECONDS = 30.0

stopping = SharedStop()


@worker_shutting_down.connect
def _shutting_down(**_kwargs: Any) -> None:
    """In Celery's main process: what its pool is doing ends soon instead of when all is done."""
    stopping.set()


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work(user_id: int | None = None) -> None:
    """Works on what is due: of one user, who may be waiting for it, or of all."""
    reconcile(user=user_id, stop=StopAfter(stopping, SHARE_SECONDS))
    if user_id is None and not stopping.is_set():
        spread()


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work_share(kind: str, number: int) -> None:
    """Works on what is due of one kind; several do so at once. number: from 0, of this kind."""
    name = _name(kind, number)
    outstanding.taken(name, 2 * SHARE_SECONDS)
    try:
        reconcile([kind], stop=StopAfter(stopping, SHARE_SECONDS), interactive_too=True)
    finally:
        outstanding.end(name)
    if not stopping.is_set() and due(kind, moment()).exists():
        _send(kind, number)


@shared_task(acks_late=True, ignore_result=True)
def sweep() -> None:
    """By beat: finds what a lost message left, and spreads it over the workers."""
    heartbeat.beat(heartbeat.LATE_SWEEPING)
    sweep_prepare()
    spread()


def spread() -> None:
    """Sends each kind as many messages as its due rows are worth."""
    counted = count_due(list(all_kinds().values()), SHARES * ROWS_A_SHARE)
    for name, count in counted.items():
        for number in range(-(-count // ROWS_A_SHARE)):
            _send(name, number)


def _send(kind: str, number: int) -> None:
    if outstanding.begin(_name(kind, number)):
        work_share.delay(kind, number)


def _name(kind: str, number: int) -> str:
    return f"{kind}:{number}"
