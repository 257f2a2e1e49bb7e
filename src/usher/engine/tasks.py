"""Celery tasks. Their messages start workers and distribute the load; the work itself is in the
database.

For each kind, a sweep sends one message for every ``ROWS_A_SHARE`` due rows, at most ``MAX_SHARES``
messages. A message that is still outstanding is not sent again, so the queue does not grow while
workers are busy or stopped. A worker processes a message for a limited time. If rows of that kind
are still due then, the worker sends the message again and takes the next message.
"""

from __future__ import annotations

import math
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from usher.engine import heartbeat, outstanding
from usher.engine.clock import moment
from usher.engine.due_query import count_due
from usher.engine.registry import all_kinds
from usher.engine.services import prepare_sweep, reconcile
from usher.engine.stopping import SharedStop, StopAfter
from usher.engine.work import due

#: The most outstanding messages of one kind.
MAX_SHARES = 8
#: Due rows for which one message is sent.
ROWS_A_SHARE = 1000
#: Seconds for which a worker processes one message.
SHARE_SECONDS = 30.0

stopping = SharedStop()


@worker_shutting_down.connect
def _shutting_down(**_kwargs: Any) -> None:
    """Tells the passes in the processes of Celery's pool to stop. Runs in Celery's main process."""
    stopping.set()


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work(user_id: int | None = None) -> None:
    """Reconciles the due rows of one user, who may be waiting for the result, or of all users, for
    ``SHARE_SECONDS`` at most. For all users, then sends messages for the rows that are still due.
    """
    # Until the pass ends, the heartbeat shows that a worker is running.
    with heartbeat.beating(heartbeat.LATE_SWEEPING_SECONDS):
        reconcile(user=user_id, stop=StopAfter(stopping, SHARE_SECONDS))
    if user_id is None and not stopping.is_set():
        spread()


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work_share(kind: str, number: int) -> None:
    """Reconciles due rows of one kind, concurrently with other workers, for ``SHARE_SECONDS`` at
    most. Then sends the message again if rows are still due. number: the message's number among the
    messages of its kind, from 0."""
    message = _message_name(kind, number)
    outstanding.extend(message, 2 * SHARE_SECONDS)  # a pass ends some seconds after it must stop
    try:
        with heartbeat.beating(heartbeat.LATE_SWEEPING_SECONDS):
            reconcile([kind], stop=StopAfter(stopping, SHARE_SECONDS), interactive_too=True)
    finally:
        outstanding.end(message)
    if not stopping.is_set() and due(kind, moment()).exists():
        _send(kind, number)


@shared_task(acks_late=True, ignore_result=True)
def sweep() -> None:
    """Sent by Celery beat: finds all due rows, including those whose message was lost, and
    distributes them to the workers."""
    heartbeat.beat(heartbeat.LATE_SWEEPING_SECONDS)
    with heartbeat.beating(heartbeat.LATE_SWEEPING_SECONDS):
        prepare_sweep()
    spread()


def spread() -> None:
    """Sends messages for the due rows of each kind. A message that was sent earlier and is still
    outstanding is not sent again."""
    due_rows = count_due(list(all_kinds().values()), most=MAX_SHARES * ROWS_A_SHARE)
    for kind, count in due_rows.items():
        for number in range(math.ceil(count / ROWS_A_SHARE)):
            _send(kind, number)


def _send(kind: str, number: int) -> None:
    if outstanding.begin(_message_name(kind, number)):
        work_share.delay(kind, number)


def _message_name(kind: str, number: int) -> str:
    return f"{kind}:{number}"
