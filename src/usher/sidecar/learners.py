"""Reads learners, enrollments and course runs from the application, page by page, with the
sidecar's names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.contract.refusals import sentence_of
from usher.sidecar.adapters.adapter import Adapter, Selection, Table
from usher.sidecar.process import Agent


@dataclass(frozen=True)
class Enrollment:
    """An enrollment of the application. is_active: whether it is active in the application, neither
    refunded nor deferred. enrolled: whether the application has recorded that it was created in the
    LMS."""

    pk: Any
    course: str
    mode: str
    is_active: bool
    enrolled: bool
    attempts: int
    change_status: str


@dataclass(frozen=True)
class Learner:
    """A user for whom the application's own code creates an LMS account.

    username: of the LMS account; '' if no username was chosen yet. named_at: when the username was
    chosen or, if that time is not stored, when the user was created (ISO 8601). has_account:
    whether the LMS account exists, according to the application. given_up, given_up_reason: whether
    the application stopped trying to create the account, and why. has_token: whether the
    application has the learner's LMS token.
    """

    pk: Any
    email: str
    name: str
    country: str
    username: str
    named_at: Any
    has_account: bool
    given_up: bool
    given_up_reason: str
    has_token: bool
    enrollments: list[Enrollment]

    @property
    def shown_name(self) -> str:
        """The name of the learner in reports."""
        return name_in_reports(self.email, self.pk)

    @property
    def country_code(self) -> str:
        """The country if it is a two-letter code, as the LMS requires; otherwise ''."""
        return self.country if len(self.country) == 2 else ""

    @property
    def retry_key(self) -> tuple[Any, ...]:
        """The values that decide about another attempt: if one of them changes, a refused learner
        is tried again."""
        return self.pk, self.username, self.email, self.name, self.country


def name_in_reports(email: Any, pk: Any) -> str:
    """Returns the e-mail address, or the primary key of a user without one: otherwise nobody could
    tell who is meant."""
    return str(email or "") or f"user {pk}, without e-mail"


def read_learners(
    agent: Agent,
    adapter: Adapter,
    *,
    page_size: int = 100,
    selection: Selection | None = None,
    with_enrollments: bool = True,
) -> Iterator[list[Learner]]:
    """Yields pages of ``page_size`` learners. selection: which users; None for those for whom the
    application's own code creates accounts. with_enrollments: also read their enrollments, which
    are otherwise empty."""
    pages = agent.pages(
        model=adapter.users.model,
        fields=adapter.users.paths,
        limit=page_size,
        **(selection or adapter.eligible_users).request(),
        related=_related_tables(adapter, with_enrollments),
    )
    for page in pages:
        if page["rows"]:
            yield _learners_of_page(adapter, page)


def read_runs(
    agent: Agent, adapter: Adapter, page_size: int = 500, *, selection: Selection | None = None
) -> Iterator[dict[str, Any]]:
    """Yields course runs. selection: which runs; None for those that the application's own sync
    updates."""
    pages = agent.pages(
        model=adapter.runs.model,
        fields=adapter.runs.paths,
        limit=page_size,
        **(selection or adapter.eligible_runs).request(),
    )
    for page in pages:
        for row in page["rows"]:
            yield adapter.runs.rename_columns(row)


def _related_tables(adapter: Adapter, with_enrollments: bool) -> dict[str, Any]:
    """Returns ``related`` of the agent's ``page``: the tables with the learners' rows."""

    def related_table(table: Table, **conditions: Any) -> dict[str, Any]:
        column = table.columns["user"]
        fields = [path for path in table.paths if path != column]
        return {"model": table.model, "column": column, "fields": fields, **conditions}

    related = {
        "account": related_table(adapter.account),
        "token": related_table(Table(adapter.token.model, {"user": adapter.token.columns["user"]})),
    }
    if with_enrollments:
        excluded = list(adapter.eligible_enrollments.exclude)
        related["enrollments"] = related_table(adapter.enrollments, exclude=excluded)
    return related


def _learners_of_page(adapter: Adapter, page: dict[str, Any]) -> list[Learner]:
    """Returns the learners of an answer to ``read_learners``' request."""
    related = page["related"]
    accounts = {}
    for row in related["account"]:
        account = adapter.account.rename_columns(row)
        accounts[account["user"]] = account
    keys_with_token = {row[adapter.token.columns["user"]] for row in related["token"]}
    enrollments = defaultdict(list)
    for row in related.get("enrollments", ()):
        enrollment = adapter.enrollments.rename_columns(row)
        enrollments[enrollment["user"]].append(_enrollment(adapter, enrollment))

    learners = []
    for row in page["rows"]:
        user = adapter.users.rename_columns(row)
        account = accounts.get(user["pk"], {})
        username_row = account if adapter.username_table == "account" else user
        learners.append(
            Learner(
                pk=user["pk"],
                email=user["email"] or "",
                name=user["name"] or "",
                country=user["country"] or "",
                username=username_row.get("username") or "",
                named_at=username_row.get("named_at") or user["created"],
                has_account=bool(account.get("has_account")),
                given_up=bool(account.get("given_up")),
                given_up_reason=error_message_of(account.get("reason")),
                has_token=user["pk"] in keys_with_token,
                enrollments=enrollments[user["pk"]],
            )
        )
    return learners


def _enrollment(adapter: Adapter, row: dict[str, Any]) -> Enrollment:
    """row: with the sidecar's names."""
    status = row["change_status"] or ""
    return Enrollment(
        pk=row["pk"],
        course=row["course"],
        mode=row.get("mode") or adapter.enrollment_mode,
        is_active=bool(row["is_active"]) and not status,
        enrolled=bool(row["enrolled"]),
        attempts=int(row.get("attempts") or 0),
        change_status=status,
    )


def error_message_of(data: Any) -> str:
    """Returns the LMS's messages in an error that the application has stored, on one line. Other
    data than such messages is cut to 300 characters; '' for None or no data."""
    text = " ".join(_user_messages(data))
    if not text:
        text = sentence_of(data)
        if not text and data and isinstance(data, dict):
            text = str(data.get("error_code") or data)
        text = text[:300]
    return " ".join(text.split())


def _user_messages(data: Any) -> list[str]:
    """Returns the messages in an error of the form ``{"email": [{"user_message": "..."}]}``."""
    messages: list[str] = []
    if not isinstance(data, dict):
        return messages
    for entries in data.values():
        if isinstance(entries, list):
            for entry in entries:
                if isinstance(entry, dict) and entry.get("user_message"):
                    messages.append(str(entry["user_message"]))
    return messages
