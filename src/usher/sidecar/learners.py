"""Reads learners, enrollments and course runs from the application, page by page, with the
sidecar's names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.sidecar.adapters.adapter import Adapter, Selection, Table
from usher.sidecar.process import Agent


@dataclass(frozen=True)
class Enrollment:
    """An enrollment of the application. wanted: whether it is active and neither refunded nor
    deferred."""

    pk: Any
    course: str
    mode: str
    wanted: bool
    enrolled: bool
    attempts: int
    change_status: str


@dataclass(frozen=True)
class Learner:
    """username: of the LMS account; '' if none was chosen yet. since: when it was chosen. made:
    whether the account exists, according to the application. given_up, reason: whether the
    application stopped trying, and why. token: whether it has an LMS token."""

    pk: Any
    email: str
    name: str
    country: str
    username: str
    since: Any
    made: bool
    given_up: bool
    reason: str
    token: bool
    enrollments: list[Enrollment]

    @property
    def content(self) -> tuple[Any, ...]:
        """Returns values of the learner. If one of them changes, a refused learner is tried
        again."""
        return self.pk, self.username, self.email, self.name, self.country


def learners(
    agent: Agent,
    adapter: Adapter,
    *,
    size: int = 100,
    only: Selection | None = None,
    with_enrollments: bool = True,
) -> Iterator[list[Learner]]:
    """Yields pages of learners for whom the application's own code creates accounts. only:
    restricts them further."""
    pages = agent.pages(
        model=adapter.users.model,
        fields=adapter.users.paths,
        limit=size,
        **(only or adapter.users_taken).request(),
        **{"with": _related(adapter, with_enrollments)},
    )
    return (_read(adapter, page) for page in pages if page["rows"])


def runs(
    agent: Agent, adapter: Adapter, size: int = 500, *, only: Selection | None = None
) -> Iterator[dict[str, Any]]:
    """Yields course runs that the application's own sync updates. only: restricts them further."""
    for page in agent.pages(
        model=adapter.runs.model,
        fields=adapter.runs.paths,
        limit=size,
        **(only or adapter.runs_taken).request(),
    ):
        yield from map(adapter.runs.named, page["rows"])


def _related(adapter: Adapter, with_enrollments: bool) -> dict[str, Any]:
    def of(table: Table, **more: Any) -> dict[str, Any]:
        by = table.columns["user"]
        fields = [path for path in table.paths if path != by]
        return {"model": table.model, "by": by, "fields": fields, **more}

    found = {
        "account": of(adapter.account),
        "token": of(Table(adapter.token.model, {"user": adapter.token.columns["user"]})),
    }
    if with_enrollments:
        excluded = list(adapter.enrollments_taken.exclude)
        found["enrollments"] = of(adapter.enrollments, exclude=excluded)
    return found


def _read(adapter: Adapter, page: dict[str, Any]) -> list[Learner]:
    accounts = {row["user"]: row for row in map(adapter.account.named, page["related"]["account"])}
    tokens = {row[adapter.token.columns["user"]] for row in page["related"]["token"]}
    enrollments = defaultdict(list)
    for row in map(adapter.enrollments.named, page["related"].get("enrollments", ())):
        enrollments[row["user"]].append(row)
    found = []
    for user in map(adapter.users.named, page["rows"]):
        account = accounts.get(user["pk"], {})
        named = account if adapter.account_name == "account" else user
        found.append(
            Learner(
                pk=user["pk"],
                email=user["email"] or "",
                name=user["name"] or "",
                country=user["country"] or "",
                username=named.get("username") or "",
                since=named.get("since") or user["created"],
                made=bool(account.get("made")),
                given_up=bool(account.get("given_up")),
                reason=said(account.get("reason")),
                token=user["pk"] in tokens,
                enrollments=[_wanted(adapter, row) for row in enrollments[user["pk"]]],
            )
        )
    return found


def _wanted(adapter: Adapter, row: dict[str, Any]) -> Enrollment:
    status = row["change_status"] or ""
    return Enrollment(
        pk=row["pk"],
        course=row["course"],
        mode=row.get("mode") or adapter.enrollment_mode,
        wanted=bool(row["wanted"]) and not status,
        enrolled=bool(row["enrolled"]),
        attempts=int(row.get("attempts") or 0),
        change_status=status,
    )


def said(data: Any) -> str:
    """Returns the LMS's message in an error that the application has stored, on one line."""
    if isinstance(data, dict):
        words = [
            str(entry["user_message"])
            for entries in data.values()
            if isinstance(entries, list)
            for entry in entries
            if isinstance(entry, dict) and entry.get("user_message")
        ]
        if words or data.get("error_code"):
            return " ".join(words) or str(data["error_code"])
    return "" if data is None else str(data)[:300]
