"""The data of a learner's page: each record with its state, attempts and next step."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.db.models import Q

from usher.application.accounts.models import AWAITING_LINK, LmsAccount, LmsProfile
from usher.application.enrollments.models import Enrollment
from usher.application.explain import Sentence, confirmed_address, explain, from_adapter
from usher.application.records.models import Certificate, Grade
from usher.application.states import State, next_step, state
from usher.application.tokens.models import LmsToken
from usher.console import words
from usher.console.comparisons import Comparison
from usher.console.recording.models import Attempt

#: The most attempts of one record, events of the audit log, enrollments, and grades or certificates
#: that the page shows.
_MAX_ATTEMPTS = 10
_MAX_EVENTS = 15
MAX_ENROLLMENTS = 200
_MAX_RESULTS = 50
#: The most attempts that are read for all records of a page.
_MAX_ATTEMPTS_READ = 20 * _MAX_ATTEMPTS
#: The audit log's name of linking an account in the console.
_LINK_EVENT = "console-link"


@dataclass(frozen=True)
class AttemptSummary:
    at: datetime
    succeeded: bool
    code: str
    message: str


@dataclass(frozen=True)
class Record:
    """A record of the learner. text: its state in a sentence; cause: the last error; next: what
    happens next. differs: whether the comparison with the LMS on this page found a difference.
    is_missing: whether the LMS no longer shows the record's course run."""

    kind: str
    title: str
    pk: int
    state: State
    text: str
    cause: str = ""
    code: str = ""
    advice: str = ""
    next: str = ""
    comparisons: list[Comparison] = field(default_factory=list)
    latest_attempts: list[AttemptSummary] = field(default_factory=list)
    failed_attempts: int = 0
    run_pk: int | None = None
    differs: bool = False
    is_missing: bool = False

    @property
    def cause_label(self) -> str:
        """The label of the cause: ``The LMS says``, ``Last answer`` or ``Why``."""
        if self.state is State.REFUSED:
            return words.message_label(self.code, self.kind)
        return "Last answer" if self.failed_attempts else "Why"


class Verdict(NamedTuple):
    """state: ``ok``, ``waiting``, ``warning`` or ``bad``. text: a sentence about the state."""

    state: str
    text: str


@dataclass(frozen=True)
class LearnerDetails:
    """The contents of a learner's page. notes: the reasons why the learner may not have an account.
    link_text: how the LMS account was linked. events: those of the audit log, newest first."""

    user: Any
    username: str
    name: str
    email: str
    is_active: bool
    is_confirmed: bool
    account: LmsAccount | None
    link_text: str
    notes: list[str]
    records: list[Record]
    events: list[Any]

    @property
    def link_condition(self) -> str:
        """When the LMS's staff may run the ``usher_link`` command of a comparison, and what the
        command does; '' without an account."""
        if self.account is None:
            return ""
        return (
            f"Staff of the LMS may run this command if {self.username} here and "
            f"{self.account.username} in the LMS are the same person. The command ends all other "
            "access to that account:"
        )

    @property
    def unsettled(self) -> list[Record]:
        """The records that are not in sync, refused ones first."""
        unsettled = [record for record in self.records if record.state is not State.IN_SYNC]
        return sorted(unsettled, key=lambda record: record.state is not State.REFUSED)

    @property
    def verdict(self) -> Verdict:
        """The most important finding about the learner's records."""
        if self.account is None:
            text = self.notes[0] if self.notes else "No LMS account was requested."
            return Verdict("waiting", text)
        if self.notes:
            return Verdict("warning", self.notes[0])
        refused = [record for record in self.records if record.state is State.REFUSED]
        if len(refused) > 1:
            return Verdict("bad", f"{len(refused)} records are refused by the LMS.")
        if refused:
            return Verdict("bad", refused[0].text)
        if self.account.observed_is_active is False and self.account.is_active:
            text = "The account is deactivated in the LMS: no sign-in is possible."
            return Verdict("bad", text)
        if self.unsettled:
            return Verdict("waiting", self.unsettled[0].text)
        missing = [record for record in self.records if record.is_missing]
        if missing:
            return Verdict("warning", f"The LMS does not show {missing[0].title} any more.")
        return Verdict("ok", "All records of this learner are in sync.")


def read_learner(user: Any, differing: Collection[tuple[str, int]] = ()) -> LearnerDetails:
    """The contents of the learner's page, from the database alone. differing: records that a
    comparison found to differ."""
    account = LmsAccount.objects.filter(user=user).first()
    sentences = explain(user)
    about_identity = [sentence for sentence in sentences if sentence.topic == "identity"]
    records = list(_records(user, account, sentences))
    return LearnerDetails(
        user=user,
        username=str(user.get_username()),
        name=from_adapter("full_name", user),
        email=from_adapter("email", user),
        is_active=bool(user.is_active),
        is_confirmed=confirmed_address(user),
        account=account,
        link_text=_describe_link(account),
        notes=[sentence.cause for sentence in about_identity if sentence.cause],
        records=_with_latest_attempts(records, differing),
        events=_audit_events(user),
    )


def _describe_link(account: LmsAccount | None) -> str:
    if account is None:
        return "There is no LMS account of this learner."
    if not account.is_ready:
        return f"The username {account.username} is reserved; the LMS account is not created yet."
    since = words.ago(account.created_in_lms_at)
    if not account.is_linked:
        return f"Usher created the LMS account {since}."
    return f"{_who_linked(account)} linked it to an LMS account that existed, {since}."


def _who_linked(account: LmsAccount) -> str:
    """The person who linked the account in the console. An account without such an audit event
    was linked by an operator, with a command."""
    if apps.is_installed("usher.application.audit"):
        from usher.application.audit.models import AuditEvent

        names = {account.username, str(account.user.get_username())}
        events = AuditEvent.objects.filter(subject__in=names, succeeded=True, name=_LINK_EVENT)
        newest = events.order_by("-id").first()
        if newest is not None:
            return str(newest.actor or "Somebody")
    return "An operator"


def _records(user: Any, account: LmsAccount | None, sentences: list[Sentence]) -> Iterator[Record]:
    """Yields the learner's records in the order of the page. Grades and certificates that are in
    sync are left out. account: None if no account was requested. sentences: the result of
    ``explain``."""
    sentence_by_subject = {(sentence.topic, sentence.about): sentence for sentence in sentences}

    def sentence_about(kind: str, course_key: str = "") -> Sentence | None:
        return sentence_by_subject.get((kind, course_key))

    if account is not None:
        yield _account_record(account, sentence_about("account"))
    token = LmsToken.objects.filter(user=user).first()
    if token is not None and not _waits_for_account(token):
        yield _record("token", token, sentence_about("token"))
    profile = LmsProfile.objects.filter(user=user).first()
    if profile is not None:
        yield _profile_record(profile, sentence_about("profile"))
    enrollments = Enrollment.objects.filter(user=user).select_related("run").order_by("-id")
    for enrollment in enrollments[:MAX_ENROLLMENTS]:
        sentence = sentence_about("enrollment", enrollment.run.course_key)
        yield _enrollment_record(enrollment, sentence)
    yield from _unsettled_results("grade", Grade, user)
    yield from _unsettled_results("certificate", Certificate, user)


def _waits_for_account(token: LmsToken) -> bool:
    """Whether nothing happens to the token before the account is created."""
    return token.due_at is None and not token.error_code and not token.is_settled


def _unsettled_results(kind: str, model: Any, user: Any) -> Iterator[Record]:
    """Yields the learner's grades or certificates that are not in sync, among the newest
    ``_MAX_RESULTS``."""
    rows = model.objects.filter(user=user).select_related("run").order_by("-id")
    for row in rows[:_MAX_RESULTS]:
        if state(row) is not State.IN_SYNC:
            title = f"{words.singular(kind)}: {row.run}"
            yield _record(kind, row, sentence=None, title=title, run_pk=row.run_id)


def _account_record(account: LmsAccount, sentence: Sentence | None) -> Record:
    username = Comparison(
        "Username",
        here=account.username,
        in_lms=account.username if account.is_ready else "",
        differs=False if account.is_ready else None,
    )
    desired = "active" if account.is_active else "deactivated"
    if account.observed_is_active is None:
        in_lms = "created" if account.is_ready else "not created"
        differs = None
    else:
        in_lms = "active" if account.observed_is_active else "deactivated"
        differs = desired != in_lms
    return _record(
        "account",
        account,
        sentence,
        advice=_advice_about_missing_link(account),
        comparisons=[username, Comparison("State", here=desired, in_lms=in_lms, differs=differs)],
    )


def _profile_record(profile: LmsProfile, sentence: Sentence | None) -> Record:
    comparisons = []
    for subject, desired, observed in (
        ("Name", profile.name, profile.observed_name),
        ("E-mail", profile.email, profile.observed_email),
        ("Country", profile.country, profile.observed_country),
    ):
        differs = _differs(desired, observed)
        comparisons.append(Comparison(subject, here=desired, in_lms=observed, differs=differs))
    return _record("profile", profile, sentence, comparisons=comparisons)


def _enrollment_record(enrollment: Enrollment, sentence: Sentence | None) -> Record:
    desired = desired_state(enrollment)
    in_lms = _state_in_lms(enrollment)
    differs = _differs(desired, in_lms)
    return _record(
        "enrollment",
        enrollment,
        sentence,
        title=str(enrollment.run),
        run_pk=enrollment.run_id,
        is_missing=enrollment.is_active and enrollment.run.missing_since is not None,
        comparisons=[Comparison("Enrollment", here=desired, in_lms=in_lms, differs=differs)],
    )


def _advice_about_missing_link(account: LmsAccount) -> str:
    """Returns advice about an account that is known to exist in the LMS, and that the LMS has not
    linked to the learner or refuses as a duplicate; else ''. With AWAITING_LINK it follows the
    error's message, which says what to do first."""
    if account.error_code == AWAITING_LINK:
        return "Afterwards choose Repair now."
    is_refused_as_duplicate = account.refused_at and "duplicate" in account.error_code
    if not is_refused_as_duplicate or not account.is_ready:
        return ""
    return (
        "The account is linked here, and not in the LMS. Compare with the LMS: the page then shows "
        "the command for the LMS's staff. Afterwards choose Repair now."
    )


def desired_state(row: Enrollment) -> str:
    """The state that the LMS should have, in words. A record without a mode accepts any."""
    if not row.mode:
        return "as in the LMS"
    return f"enrolled as {row.mode}" if row.is_active else "not enrolled"


def _state_in_lms(row: Enrollment) -> str:
    """The enrollment as it was last seen in the LMS; '' if it never was."""
    if row.observed_is_active is None:
        return ""
    return f"enrolled as {row.observed_mode}" if row.observed_is_active else "not enrolled"


def _differs(desired: str, in_lms: str) -> bool | None:
    """Whether the LMS has another value; None if its value is unknown."""
    return desired.lower() != in_lms.lower() if in_lms else None


def _record(kind: str, row: Any, sentence: Sentence | None, **values: Any) -> Record:
    """The record of a row. sentence: about the row's state; None for a sentence that fits each
    kind. values: further fields of ``Record``; a title and an advice replace those that are made
    here."""
    title = values.pop("title", "")
    if not title:
        title = words.singular(kind).capitalize().replace("Lms", "LMS")
    advice = values.pop("advice", "")
    if not advice and row.error_code and row.refused_at:
        advice = words.advice(row.error_code, kind, words.REPAIR_LABEL)
    return Record(
        kind=kind,
        title=title,
        pk=row.pk,
        state=state(row),
        text=sentence.text if sentence else _describe_state(row),
        cause=row.error_message,
        code=row.error_code,
        advice=advice,
        next=next_step(row),
        failed_attempts=row.attempts,
        **values,
    )


def _describe_state(row: Any) -> str:
    return "The LMS has the desired state." if state(row) is State.IN_SYNC else "Not yet in sync."


def _with_latest_attempts(
    records: list[Record], differing: Collection[tuple[str, int]]
) -> list[Record]:
    """Adds to each record its newest attempts, read with one query, and sets ``differs``.

    differing: kind and key of the records that differ from the LMS.
    """
    if not records:
        return records
    condition = Q()
    for record in records:
        condition |= Q(kind=record.kind, row_id=record.pk)
    attempts_by_record: dict[tuple[str, int], list[AttemptSummary]] = {}
    for row in Attempt.objects.filter(condition).order_by("-id")[:_MAX_ATTEMPTS_READ]:
        latest_attempts = attempts_by_record.setdefault((row.kind, row.row_id), [])
        if len(latest_attempts) < _MAX_ATTEMPTS:
            latest_attempts.append(AttemptSummary(row.at, row.succeeded, row.code, row.message))
    return [
        replace(
            record,
            latest_attempts=attempts_by_record.get((record.kind, record.pk), []),
            differs=(record.kind, record.pk) in differing,
        )
        for record in records
    ]


def _audit_events(user: Any) -> list[Any]:
    """The newest audit events about the learner, under any username that the learner has or had;
    empty without the audit app."""
    if not apps.is_installed("usher.application.audit"):
        return []
    from usher.application.audit.models import AuditEvent

    names = {str(user.get_username())}
    names.update(user.username_reservations.values_list("username", flat=True))
    events = AuditEvent.objects.filter(subject__in=names).select_related("actor")
    return list(events.order_by("-id")[:_MAX_EVENTS])
