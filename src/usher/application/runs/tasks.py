"""The periodic sync of course runs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import shared_task

from usher.application.runs.services import sync_runs
from usher.engine.claim import Scope
from usher.engine.due_query import DueQuery
from usher.engine.registry import all_kinds
from usher.engine.services import reconcile
from usher.engine.stopping import StopAfter
from usher.engine.tasks import SHARE_SECONDS, stopping


@shared_task(acks_late=True, ignore_result=True)
def sync_all_runs() -> None:
    """Sent by Celery beat: updates all runs. Reading the course list of a large or slow LMS takes
    minutes, so this worker also processes interactive work during that time."""
    no_kinds: list[Any] = []  # nothing but the interactive work of all kinds
    query = DueQuery(no_kinds, Scope(), interactive=list(all_kinds().values()))

    def meanwhile() -> None:
        if stopping.is_set():
            raise _Stopping
        if query.due():
            reconcile(no_kinds, stop=StopAfter(stopping, SHARE_SECONDS), interactive_too=True)

    with suppress(_Stopping):
        sync_runs(meanwhile=meanwhile)


class _Stopping(Exception):
    """The worker was told to stop; the next sync starts from the beginning."""
