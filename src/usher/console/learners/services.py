"""One learner, here and in the LMS: each record with its difference, attempts and next step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db.models import Q
from django.utils import timezone

from usher.application.accounts import adoption
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.services import ensure_account
from usher.application.adapter import adapter
from usher.application.engine.gate import Gate
from usher.application.engine.kinds import NAMES, all_kinds
from usher.application.engine.lanes import Lane
from usher.application.engine.services import Patience, reconcile
from usher.application.engine.stopping import StopAfter
from usher.application.engine.summary import Summary
from usher.application.enrollments.models import Enrollment
from usher.application.explain import Sentence, explain
from usher.application.lms_client import client
from usher.application.records.models import Certificate, Grade
from usher.application.states import State, state, when
from usher.application.tokens.models import LmsToken
from usher.client.errors import LmsError
from usher.client.payloads import AccountSeen, ListedEnrollment
from usher.console import words
from usher.console.recording.models import Attempt

#: Attempts of one record, events of the audit log.
_ATTEMPTS = 10
_EVENTS = 15
_ENROLLMENTS = 200
_LINKED = "console-link"
#: Seconds that a person waits for a repair.
REPAIR_SECONDS = 20.0


@dataclass(frozen=True)
class Side:
    """One thing as it is wanted here and as the LMS was last seen to have it. differs: None where
    the LMS was never asked."""

    what: str
    wanted: str
    seen: str
    differs: bool | None


@dataclass(frozen=True)
class Try:
    at: datetime
    succeeded: bool
    code: str
    message: str


@dataclass(frozen=True)
class Record:
    """A record of the learner. text: a sentence; cause: the LMS's words; next: what happens."""

    kind: str
    title: str
    pk: int
    state: State
    text: str
    cause: str = ""
    code: str = ""
    advice: str = ""
    next: str = ""
    sides: list[Side] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    attempts: int = 0
    run_pk: int | None = None


@dataclass(frozen=True)
class Learner:
    """notes: what keeps the learner from an account at all. linked: how the two are joined."""

    user: Any
    username: str
    name: str
    email: str
    is_active: bool
    is_confirmed: bool
    account: LmsAccount | None
    linked: str
    notes: list[str]
    records: list[Record]
    events: list[Any]

    @property
    def wrong(self) -> list[Record]:
        """Refused ones first."""
        wrong = [one for one in self.records if one.state is not State.IN_SYNC]
        return sorted(wrong, key=lambda one: one.state is not State.REFUSED)

    @property
    def verdict(self) -> tuple[str, str]:
        """State and sentence."""
        if self.account is None:
            return "waiting", self.notes[0] if self.notes else "No LMS account is asked for."
        refused = [one for one in self.records if one.state is State.REFUSED]
        if refused:
            return "bad", refused[0].text if len(refused) == 1 else (
                f"{len(refused)} records are refused by the LMS."
            )
        if self.account.observed_is_active is False and self.account.is_active:
            return "bad", "The account is deactivated in the LMS: no sign-in is possible."
        if self.wrong:
            return "waiting", self.wrong[0].text
        return "ok", "Everything of this learner is in sync."


def learner(user: Any) -> Learner:
    """Reads the database; asks the LMS nothing."""
    account = LmsAccount.objects.filter(user=user).first()
    story = explain(user)
    return Learner(
        user=user,
        username=str(user.get_username()),
        name=adapter().full_name(user),
        email=adapter().email(user),
        is_active=bool(user.is_active),
        is_confirmed=adapter().is_confirmed(user),
        account=account,
        linked=_linked(account),
        notes=[one.text for one in story if one.topic == "identity"][1:],
        records=_with_tries(list(_records(user, account, story))),
        events=_events(user),
    )


def _linked(account: LmsAccount | None) -> str:
    if account is None:
        return "There is no LMS account of this learner."
    if not account.is_ready:
        return f"The username {account.username} is reserved; the LMS account is not made yet."
    event = _made_or_linked(account)
    since = words.ago(account.created_in_lms_at)
    if event is None:
        return f"Linked {since}; the audit log does not tell where the LMS account came from."
    if event.name == _LINKED:
        return f"{event.actor or 'Somebody'} linked it to an LMS account of before, {since}."
    return f"Usher made the LMS account {since}."


def _made_or_linked(account: LmsAccount) -> Any:
    """The event of the audit log that tells where the account came from."""
    if not apps.is_installed("usher.application.audit"):
        return None
    from usher.application.audit.models import AuditEvent

    names = {account.username, str(account.user.get_username())}
    events = AuditEvent.objects.filter(subject__in=names, succeeded=True)
    return events.filter(name__in=(_LINKED, "lms-account")).order_by("-id").first()


def _records(user: Any, account: LmsAccount | None, story: list[Sentence]) -> Iterator[Record]:
    said = {(one.topic, one.about): one for one in story}
    if account is not None:
        active = {True: "active", False: "deactivated", None: ""}[account.observed_is_active]
        seen = active or ("made" if account.is_ready else "not made")
        wanted = "active" if account.is_active else "deactivated"
        yield _record(
            "account",
            account,
            said.get(("account", "")),
            sides=[
                Side(
                    "Username",
                    account.username,
                    account.username if account.is_ready else "",
                    None if not account.is_ready else False,
                ),
                Side("State", wanted, seen, _differs(wanted, active)),
            ],
        )
    token = LmsToken.objects.filter(user=user).first()
    # One that comes with the account has no story of its own.
    if token and (token.next_attempt_at is not None or token.error_code or token.is_settled):
        yield _record("token", token, said.get(("token", "")))
    if profile := LmsProfile.objects.filter(user=user).first():
        yield _record(
            "profile",
            profile,
            said.get(("profile", "")),
            sides=[
                Side(
                    what,
                    getattr(profile, name),
                    getattr(profile, f"observed_{name}"),
                    _differs(getattr(profile, name), getattr(profile, f"observed_{name}")),
                )
                for what, name in (("Name", "name"), ("E-mail", "email"), ("Country", "country"))
            ],
        )
    rows = Enrollment.objects.filter(user=user).select_related("run").order_by("-id")
    for row in rows[:_ENROLLMENTS]:
        wanted = _wanted(row)
        seen = _seen(row)
        yield _record(
            "enrollment",
            row,
            said.get(("enrollment", row.run.course_key)),
            title=str(row.run),
            run_pk=row.run_id,
            sides=[Side("Enrollment", wanted, seen, _differs(wanted, seen))],
        )
    pulled: tuple[tuple[str, Any], ...] = (("grade", Grade), ("certificate", Certificate))
    for name, model in pulled:
        for row in model.objects.filter(user=user).select_related("run").order_by("-id")[:50]:
            if state(row) is not State.IN_SYNC:
                yield _record(
                    name, row, None, title=f"{words.one(name)}: {row.run}", run_pk=row.run_id
                )


def _wanted(row: Enrollment) -> str:
    if not row.mode:
        return "as the LMS has it"
    return f"enrolled as {row.mode}" if row.is_active else "not enrolled"


def _seen(row: Enrollment) -> str:
    if row.observed_is_active is None:
        return ""
    return f"enrolled as {row.observed_mode}" if row.observed_is_active else "not enrolled"


def _differs(wanted: str, seen: str) -> bool | None:
    return wanted.lower() != seen.lower() if seen else None


def _record(kind: str, row: Any, said: Sentence | None, **more: Any) -> Record:
    title = more.pop("title", "") or words.one(kind).capitalize().replace("Lms", "LMS")
    is_known = bool(row.error_code)
    return Record(
        kind=kind,
        title=title,
        pk=row.pk,
        state=state(row),
        text=said.text if said else _plain(row),
        cause=row.error_message,
        code=row.error_code,
        advice=words.advice(row.error_code) if is_known and row.parked_at else "",
        next=when(row),
        attempts=row.attempts,
        **more,
    )


def _plain(row: Any) -> str:
    return "The LMS has it as it is wanted." if state(row) is State.IN_SYNC else "Not yet in sync."


def _with_tries(records: list[Record]) -> list[Record]:
    """The newest attempts at each record that has a story, in one query."""
    asked = Q()
    for one in records:
        asked |= Q(kind=one.kind, row_id=one.pk)
    if not records:
        return records
    found: dict[tuple[str, int], list[Try]] = {}
    for row in Attempt.objects.filter(asked).order_by("-id")[: 20 * _ATTEMPTS]:
        tries = found.setdefault((row.kind, row.row_id), [])
        if len(tries) < _ATTEMPTS:
            tries.append(Try(row.at, row.succeeded, row.code, row.message))
    return [Record(**(vars(one) | {"tries": found.get((one.kind, one.pk), [])})) for one in records]


def _events(user: Any) -> list[Any]:
    if not apps.is_installed("usher.application.audit"):
        return []
    from usher.application.audit.models import AuditEvent

    names = {str(user.get_username())}
    names.update(user.username_reservations.values_list("username", flat=True))
    events = AuditEvent.objects.filter(subject__in=names).select_related("actor")
    return list(events.order_by("-id")[:_EVENTS])


# What the LMS says now


@dataclass(frozen=True)
class Compared:
    """What the LMS has at this moment. account: None when it has none. problem: why it could not
    be asked. candidates: accounts there that may be this learner's."""

    at: datetime
    account: AccountSeen | None = None
    sides: list[Side] = field(default_factory=list)
    candidates: list[adoption.Proposal] = field(default_factory=list)
    problem: str = ""

    @property
    def differences(self) -> int:
        return sum(bool(side.differs) for side in self.sides)


def compare(user: Any) -> Compared:
    """Asks the LMS; changes nothing."""
    now, row = timezone.now(), LmsAccount.objects.filter(user=user).first()
    try:
        if row is None or not row.is_ready:
            return Compared(now, candidates=adoption.proposals_for(user))
        lms = client()
        account = lms.account(row.username)
        if account is None:
            return Compared(now, sides=[Side("LMS account", row.username, "none", True)])
        seen = list(lms.enrollments_of([row.username]))
    except LmsError as error:
        return Compared(now, problem=f"{error.message} [{error.code}]")
    return Compared(now, account, list(_compared(user, row, account, seen)))


def _compared(
    user: Any, row: LmsAccount, account: AccountSeen, seen: list[ListedEnrollment]
) -> Iterator[Side]:
    active = "active" if account.is_active else "deactivated"
    wanted = "active" if row.is_active else "deactivated"
    yield Side("Account", wanted, active, wanted != active)
    email, name = adapter().email(user), adapter().full_name(user)
    yield Side("E-mail", email, account.email, email.lower() != account.email.lower())
    if name:
        yield Side("Name", name, account.name, name != account.name)
    there = {one.course_key: one for one in seen}
    rows = Enrollment.objects.filter(user=user).select_related("run").order_by("-id")
    for here in rows[:_ENROLLMENTS]:
        found = there.pop(here.run.course_key, None)
        is_in = found is not None and found.is_active
        wants = _wanted(here)
        has = f"enrolled as {found.mode}" if found and is_in else "not enrolled"
        yield Side(here.run.course_key, wants, has, wants != has)
    for key, one in there.items():
        if one.is_active:
            yield Side(key, "no record here", f"enrolled as {one.mode}", True)


# Repairs


def repair(user: Any) -> Summary:
    """Retries what is not in sync, refusals too, and waits some seconds for the LMS.

    Raises InTransaction within a transaction.
    """
    if adapter().is_eligible(user):
        ensure_account(user)
    for kind in all_kinds().values():
        if kind.user_field == "user_id":
            rows = kind.rows().filter(user_id=user.pk)
            (rows.unsettled() | rows.exclude(error_code="")).filter(
                Q(next_attempt_at__isnull=False) | Q(parked_at__isnull=False) | ~Q(error_code="")
            ).wake(lane=Lane.INTERACTIVE)
    for name in ("account", "enrollment"):
        # What seems right is compared with the LMS, and sent only where it differs.
        all_kinds()[name].rows().filter(user_id=user.pk).look()
    stop = StopAfter(threading.Event(), REPAIR_SECONDS)
    return reconcile(NAMES, user=user, patience=Patience(REPAIR_SECONDS / 2), stop=stop)


def stopped(user: Any) -> list[str]:
    """Kinds of this learner's records that are stopped for everybody. One learner's repair does
    not start them again: what is wrong concerns all."""
    state_of_all = client().http.state
    kinds = dict.fromkeys(one.kind for one in learner(user).wrong)
    return [words.many(name) for name in kinds if Gate(name, state_of_all).is_closed]


def link(user: Any, lms_username: str, lms_user_id: str) -> str:
    """Links the learner to an LMS account that is there already: '' or why it was not done.

    The account is asked for again: it must still be the one that was shown. Raises LmsError.
    """
    row = {
        "user_id": str(user.pk),
        "user": str(user.get_username()),
        "lms_username": lms_username,
        "lms_user_id": lms_user_id,
        "decision": adoption.LINK,
    }
    decided = next(iter(adoption.decide([row])))
    return decided.problem
