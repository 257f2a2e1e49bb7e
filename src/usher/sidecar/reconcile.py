"""One pass: what the application's own tables say is due, and nothing else.

The sidecar keeps no state. What is due is read from the application, and what was achieved is
written back before the next batch, so a pass that was killed is finished by the next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from usher.client import batch
from usher.sidecar.accounts import ACCOUNT, reconcile_accounts
from usher.sidecar.adapters.adapter import Adapter, Selection
from usher.sidecar.enrollments import ENROLLMENT, reconcile_enrollments
from usher.sidecar.errors import SidecarError
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import Outcome
from usher.sidecar.process import Agent

KINDS = (ACCOUNT, ENROLLMENT)


@dataclass(frozen=True)
class Asked:
    """user: e-mail or username, run: its key; '' for all."""

    kinds: Collection[str] = KINDS
    user: str = ""
    run: str = ""


def due(adapter: Adapter, asked: Asked) -> dict[str, tuple[str, Selection]]:
    """Kind -> table, and which of its rows are due."""
    found: dict[str, tuple[str, Selection]] = {}
    if ACCOUNT in asked.kinds:
        users = adapter.users_due
        if asked.user:
            users = users.also([{"email": asked.user}, {"username": asked.user}])
        found[ACCOUNT] = (adapter.users.model, users)
    if ENROLLMENT in asked.kinds:
        rows = adapter.enrollments_due
        if asked.user:
            rows = rows.also([{"user__email": asked.user}, {"user__username": asked.user}])
        if asked.run:
            rows = rows.also({adapter.enrollments.columns["course"]: asked.run})
        found[ENROLLMENT] = (adapter.enrollments.model, rows)
    return found


def count_due(agent: Agent, adapter: Adapter, asked: Asked) -> dict[str, int]:
    """How many are due now. Enrollments of learners without an account become due with it."""
    return {
        kind: agent.ask("count", model=model, **selection.request())
        for kind, (model, selection) in due(adapter, asked).items()
    }


def reconcile(sides: Opened, asked: Asked, outcome: Outcome) -> Outcome:
    """Accounts first: enrollments need them. Raises SidecarError, LmsError."""
    offered = batch.capabilities(sides.lms)
    if offered is None:
        raise SidecarError(
            f"The LMS at {sides.lms.http.base_url} can't say now what its batch API offers; "
            "nothing was changed. Run this again."
        )
    selections = due(sides.adapter, asked)
    if ACCOUNT in selections:
        _, selection = selections[ACCOUNT]
        reconcile_accounts(sides, selection, outcome, batched=batch.ACCOUNTS in offered)
    if ENROLLMENT in selections:
        _, selection = selections[ENROLLMENT]
        batched = batch.ENROLLMENTS in offered
        reconcile_enrollments(sides, selection, outcome, batched=batched)
    return outcome
