"""Lists learners on whom the application itself has given up, with its reasons. Sends no request to
the LMS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.sidecar.adapters.adapter import Adapter, Selection
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
    columns = adapter.enrollments.columns
    not_enrolled = adapter.eligible_enrollments.narrowed_by({columns["enrolled"]: False})
    if adapter.retry_limit:
        not_enrolled = not_enrolled.narrowed_by(
            {f"{columns['attempts']}__gte": adapter.retry_limit}
        )
    else:
        not_enrolled = not_enrolled.narrowed_by({"created_on__lt": {"ago": OVERDUE_SECONDS}})
    for row in _rows(agent, adapter.enrollments.model, adapter.enrollments.paths, not_enrolled):
        enrollment = adapter.enrollments.rename_columns(row)
        reason = (
            f"not enrolled after {enrollment['attempts']} attempts; the application does not try "
            "again"
            if adapter.retry_limit
            else "not enrolled for more than a day"
        )
        who = name_in_reports(enrollment["email"], enrollment["user"])
        yield GivenUp("enrollment", f"{who} in {enrollment['course']}", reason)


def _rows(
    agent: Agent, model: str, fields: list[str], selection: Selection
) -> Iterator[dict[str, Any]]:
    for page in agent.pages(model=model, fields=fields, limit=500, **selection.request()):
        yield from page["rows"]
