"""Lists learners on whom the application itself has given up, with its reasons. Sends no request to
the LMS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.sidecar.adapters.adapter import CREATED, Adapter, Condition, Selection
from usher.sidecar.learners import error_message_of, name_in_reports
from usher.sidecar.process import Agent

#: Seconds after which an enrollment counts as given up, if the application counts no attempts.
OVERDUE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class GivenUp:
    """kind: account or enrollment. what: the learner; for an enrollment also the run. reason: a
    sentence."""

    kind: str
    what: str
    reason: str


def find_given_up(agent: Agent, adapter: Adapter) -> Iterator[GivenUp]:
    """Yields accounts, then enrollments. Raises SidecarError."""
    yield from _given_up_accounts(agent, adapter)
    yield from _given_up_enrollments(agent, adapter)


def _given_up_accounts(agent: Agent, adapter: Adapter) -> Iterator[GivenUp]:
    """Yields the accounts that the application has marked as given up."""
    columns = adapter.account.columns
    if "given_up" not in columns:
        return  # this application does not record it
    refused = Selection(filter=({columns["given_up"]: True, "user__is_active": True},))
    fields = ["user_id", "user__email", columns["username"], columns["reason"]]
    for row in _rows(agent, adapter.account.model, fields, refused):
        reason = error_message_of(row[columns["reason"]]) or "no reason was kept"
        who = name_in_reports(row["user__email"], row["user_id"])
        yield GivenUp("account", who, f"the LMS refused the account: {reason}")


def _given_up_enrollments(agent: Agent, adapter: Adapter) -> Iterator[GivenUp]:
    """Yields the enrollments that the LMS lacks after all attempts of the application, or after a
    day if the application counts no attempts."""
    table = adapter.enrollments
    is_given_up: Condition
    if adapter.retry_limit:
        is_given_up = {f"{table.columns['attempts']}__gte": adapter.retry_limit}
    else:
        is_given_up = {f"{CREATED}__lt": {"ago": OVERDUE_SECONDS}}
    not_enrolled = {table.columns["enrolled"]: False}
    selection = adapter.eligible_enrollments.narrowed_by(not_enrolled, is_given_up)
    for row in _rows(agent, table.model, table.paths, selection):
        enrollment = table.rename_columns(row)
        if adapter.retry_limit:
            attempts = enrollment["attempts"]
            reason = f"not enrolled after {attempts} attempts; the application does not try again"
        else:
            reason = "not enrolled for more than a day"
        who = name_in_reports(enrollment["email"], enrollment["user"])
        yield GivenUp("enrollment", f"{who} in {enrollment['course']}", reason)


def _rows(
    agent: Agent, model: str, fields: list[str], selection: Selection
) -> Iterator[dict[str, Any]]:
    """Yields the selected rows of the application, with its own names."""
    for page in agent.pages(model=model, fields=fields, limit=500, **selection.request()):
        yield from page["rows"]
