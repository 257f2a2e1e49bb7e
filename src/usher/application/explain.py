"""Describes the state of one learner in sentences, for ``usher why`` and the console."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from usher.application import dev_lms
from usher.application.accounts import eligibility
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.naming import clean_username
from usher.application.adapter import AdapterFailed, adapter, find_adapter_failure
from usher.application.arguments import require_run, require_user
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseMode, CourseRun, problem_of_key
from usher.application.states import duration_text, next_step, state
from usher.application.tokens.models import LmsToken
from usher.engine import heartbeat
from usher.engine.models import Reconciled
from usher.engine.notify import broker_error, broker_url

#: The most events of the audit log that are shown.
_MAX_EVENTS = 10


@dataclass(frozen=True)
class Sentence:
    """topic: ``identity``, ``account``, ``token``, ``profile``, ``enrollment``, ``history``,
    ``worker``, ``retry``, ``mistyped`` or ``compare``. text: a sentence about the topic. state: a
    ``State``, or ''. cause: the last error, or ''. next: what happens next and when, or what to do,
    or ''. about: the course key that the sentence is about, or ''."""

    topic: str
    text: str
    state: str = ""
    cause: str = ""
    next: str = ""
    about: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def explain(user: Any, run: CourseRun | None = None) -> list[Sentence]:
    """Sentences about a learner's identity, account, token, profile, enrollments and last events.

    run: leaves out enrollments in other runs. Reads the database; sends no request to the LMS.
    """
    require_user(user)
    if run is not None:
        require_run(run)
    return [
        *_identity(user),
        *_account(user),
        *_token(user),
        *_profile(user),
        *_enrollments(user, run),
        *_history(user, run),
    ]


def _identity(user: Any) -> Iterator[Sentence]:
    # One name, if people sign in with their e-mail address.
    name_and_address = dict.fromkeys((str(user.get_username()), from_adapter("email", user)))
    names = ", ".join(filter(None, name_and_address))
    if failure := find_adapter_failure(user):
        advice = "A developer must correct that class."
        yield Sentence("identity", names, cause=f"{failure.reason}.", next=advice)
    else:
        yield Sentence("identity", names, cause=_why_not_eligible(user))


def how_to_retry(user: Any) -> Sentence:
    """How to retry the learner's refused records in a terminal."""
    require_user(user)
    name = shlex.quote(str(user.get_username()))
    return Sentence(
        "retry",
        "When the cause is removed, send the refused records to the LMS again:",
        next=f"`python manage.py reconcile --recheck --user {name}`",
    )


def how_to_delete_mistyped_runs(user: Any) -> list[Sentence]:
    """How to delete course runs whose keys may be mistyped: the LMS has never shown the run, and
    refused the learner's enrollment for this reason. Leaves out runs in which the LMS has any
    learner enrolled."""
    require_user(user)
    rows = Enrollment.objects.refused().filter(user=user, work__error_code="unknown-run")
    in_lms = Enrollment.objects.filter(run=OuterRef("run"), observed_is_active=True)
    rows = rows.filter(~Exists(in_lms), run__observed_at=None).select_related("run")
    # Leaves out malformed keys: a shell may interpret their characters.
    runs = [row.run for row in rows.order_by("-id") if not problem_of_key(row.run.course_key)]
    return [_how_to_delete(run) for run in runs]


def _how_to_delete(run: CourseRun) -> Sentence:
    key, count = run.course_key, run.enrollments.count()
    enrollments = "1 enrollment" if count == 1 else f"{count} enrollments"
    code = (
        "from usher.application.models import CourseRun; "
        f"CourseRun.objects.filter(course_key='{key}', observed_at=None).delete()"
    )
    return Sentence(
        "mistyped",
        f"The LMS has never shown {key}. If the key is mistyped, enroll the learner in the "
        f"right run. To delete the run here, with its {enrollments}:",
        next=f'`python manage.py shell -c "{code}"`',
        about=key,
    )


def how_to_compare(user: Any) -> list[Sentence]:
    """How to compare the learner's records with the LMS in a terminal; empty without the console,
    which has the command."""
    require_user(user)
    if not apps.is_installed("usher.console"):
        return []
    name = shlex.quote(str(user.get_username()))
    return [
        Sentence(
            "compare",
            "The records show what was last seen in the LMS. To read the LMS now:",
            next=f"`python manage.py compare_learner {name}`",
        )
    ]


def worker_or_broker_problem() -> Iterator[Sentence]:
    """Why no worker processes due records. Yields nothing if a worker was seen lately and, with
    Celery, the broker answers. May take some seconds."""
    if error := broker_error():
        yield Sentence(
            "worker",
            "Celery's broker does not answer, so workers get no messages.",
            cause=error,
            next="Start the broker, or correct CELERY_BROKER_URL.",
        )
        return
    if (problem := worker_problem()) is not None:
        yield problem


def worker_problem() -> Sentence | None:
    """Says that no worker is running, and how to start one; None if a worker was seen lately. Runs
    one query."""
    beat = heartbeat.newest_beat()
    if beat is None:
        text = "No worker has ever run."
    else:
        if beat.seconds_ago <= beat.late_after:
            return None
        if beat.late_after == heartbeat.STOPPED:
            text = f"The worker was stopped {duration_text(beat.seconds_ago)} ago."
        else:
            text = f"No worker has reported for {duration_text(beat.seconds_ago)}."
    return Sentence("worker", text, next=f"Start {_processes_to_start()}.")


def _processes_to_start() -> str:
    if dev_lms.is_used():  # `usher dev` passes settings to the worker
        return "`usher dev` again"
    return "Celery's workers and beat" if broker_url() else "`manage.py reconcile --watch`"


def from_adapter(method: str, user: Any) -> str:
    """The result of a method of the project's adapter for the user; if it fails, the reason in
    parentheses."""
    try:
        return str(getattr(adapter(), method)(user))
    except AdapterFailed as error:
        return f"({error.reason})"


def confirmed_address(user: Any) -> bool:
    """Whether the e-mail address is known to be the learner's own; False if the adapter fails."""
    try:
        return bool(adapter().is_confirmed(user))
    except AdapterFailed:
        return False


def _why_not_eligible(user: Any) -> str:
    """Why the user may have no LMS account now; '' for a user who may have one."""
    code = eligibility.ineligibility_code(user)
    if code == eligibility.UNCONFIRMED:
        return f"{eligibility.SENTENCES[code]} Once it is confirmed, the LMS account is created."
    return eligibility.SENTENCES[code] if code else ""


def _account(user: Any) -> Iterator[Sentence]:
    row = LmsAccount.objects.filter(user=user).first()
    if row is None:
        yield Sentence(
            "account",
            "No LMS account was requested.",
            next="Call ensure_account(user), or run: "
            "`python manage.py repair_missing_courseware_records`",
        )
        return
    if not row.is_ready:
        text = f"The LMS account {row.username} is not created yet."
    elif row.awaits_link:
        since = _ago(row.linked_at or row.created_in_lms_at)
        text = f"The existing LMS account {row.username} was linked to this learner here {since}."
    elif row.is_deactivated_in_lms:
        text = f"The LMS account {row.username} is deactivated in the LMS: no sign-in is possible."
    elif not row.is_active:
        verb = "is" if row.observed_is_active is False else "will be"
        text = f"The LMS account {row.username} {verb} deactivated."
    else:
        since = _ago(row.created_in_lms_at)
        text = f"LMS account {row.username}, {row.origin} {since}"
        text += _reason_for_changed_username(row) + "."
    yield _sentence_of_row(row, "account", text)


def _reason_for_changed_username(row: LmsAccount) -> str:
    """Why the username in the LMS ends with a number that the learner's own username lacks; '' if
    it has no such number."""
    name = clean_username(str(row.user.get_username()))
    if row.is_linked or not re.fullmatch(re.escape(name) + r"_\d+", row.username):
        return ""
    return f"; the name {name} was taken, and names in the LMS never change"


def _token(user: Any) -> Iterator[Sentence]:
    row = LmsToken.objects.filter(user=user).first()
    if row is None:
        return
    if row.is_valid_for(seconds=0):
        text = f"LMS token, valid for {_time_until(row.expires_at)}."
    elif row.expires_at:
        text = f"The LMS token expired {_ago(row.expires_at)}; it is renewed when it is needed."
    elif row.due_at is None and not row.error_code:
        text = "No LMS token yet: it is obtained after the account is created."
    else:
        text = "No LMS token yet."
    yield _sentence_of_row(row, "token", text)


def _profile(user: Any) -> Iterator[Sentence]:
    row = LmsProfile.objects.filter(user=user).first()
    if row is not None and not row.is_settled:
        text = f"The name {row.name} and the e-mail address {row.email} are not in the LMS yet."
        yield _sentence_of_row(row, "profile", text)


def _enrollments(user: Any, run: CourseRun | None) -> Iterator[Sentence]:
    rows = Enrollment.objects.filter(user=user).select_related("run").order_by("-id")
    if run is not None:
        rows = rows.filter(run=run)
    enrollments = list(rows)
    if not enrollments:
        where = f" in {run.course_key}" if run else " anywhere"
        yield Sentence("enrollment", f"Not enrolled{where}.")
    for row in enrollments:
        sentence = _sentence_of_row(
            row, "enrollment", _enrollment_text(row), about=row.run.course_key
        )
        if row.is_settled and row.is_active and row.run.missing_since:
            advice = "Restore the course run in the LMS, or unenroll the learner here."
            sentence = replace(sentence, next=advice)
        yield sentence


def _enrollment_text(row: Enrollment) -> str:
    key, run = row.run.course_key, row.run
    title = f"{run.title} ({key})" if run.title else key
    if not row.mode:
        return (
            f"The learner may have been enrolled in {title} in the LMS; a worker will check there."
        )
    missing = " The LMS does not show this run." if run.missing_since else ""
    if row.is_settled:
        sentence = (
            f"Enrolled in {title} as {row.mode}" if row.is_active else f"Unenrolled from {title}"
        )
        observed = f", seen in the LMS {_ago(row.observed_at)}" if row.observed_at else ""
        return f"{sentence}{observed}.{missing}"
    refused = " (refused)" if row.refused_at else ""
    if not row.is_active:
        if row.observed_is_active is False:
            return f"Unenrolled from {title}; a worker will check the LMS once more.{missing}"
        return f"Not unenrolled yet from {title}{refused}.{missing}"
    if row.observed_is_active:
        if row.observed_mode == row.mode:
            return (
                f"Enrolled in {title} as {row.mode}; a worker will check the LMS once more."
                f"{missing}"
            )
        return (
            f"Enrolled in {title} as {row.observed_mode}, not yet as {row.mode}{refused}.{missing}"
        )
    return f"Not enrolled yet in {title} as {row.mode}{refused}.{missing}{_why_run_may_refuse(row)}"


def _why_run_may_refuse(row: Enrollment) -> str:
    """For a refused enrollment: the run's enrollment period or mode, if one of them may be why the
    LMS refused it; else ''."""
    if not row.refused_at:
        return ""
    run, now = row.run, timezone.now()
    cause = ""
    if run.enrollment_start and run.enrollment_start > now:
        cause = f" The run accepts enrollments from {_day(run.enrollment_start)}."
    if run.enrollment_end and run.enrollment_end <= now:
        cause = f" The run accepted enrollments until {_day(run.enrollment_end)}."
    if row.error_code.startswith("mode-"):
        cause += _why_mode_may_be_refused(row, CourseMode.objects.filter(run=run))
    return cause


def _why_mode_may_be_refused(row: Enrollment, modes: Iterable[CourseMode]) -> str:
    """That the enrollment's mode has ended, or else which modes are open; '' for none."""
    now = timezone.now()
    open_slugs = []
    for mode in modes:
        if not mode.expires_at or mode.expires_at > now:
            open_slugs.append(mode.slug)
        elif mode.slug == row.mode:
            return f" Its mode {mode.slug} ended on {_day(mode.expires_at)}."
    return f" It offers {', '.join(sorted(open_slugs))}." if open_slugs else ""


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _history(user: Any, run: CourseRun | None) -> Iterator[Sentence]:
    """The learner's last audit events, newest first. run: leaves out events about other runs."""
    if not apps.is_installed("usher.application.audit"):
        return
    from usher.application.audit.models import AuditEvent

    names = {user.get_username()}
    names.update(user.username_reservations.values_list("username", flat=True))
    events = AuditEvent.objects.filter(subject__in=names)
    if run is not None:
        events = events.filter(Q(detail__run__isnull=True) | Q(detail__run=run.course_key))
    for event in events.order_by("-id")[:_MAX_EVENTS]:
        yield Sentence("history", f"{_ago(event.at)}: {event.sentence}.", about=event.run)


def _sentence_of_row(row: Reconciled, topic: str, text: str, about: str = "") -> Sentence:
    cause = ""
    if row.error_code:
        attempts = f" after {row.attempts} attempts" if row.attempts > 1 else ""
        # The message may end with a command, and no text may follow a command.
        cause = f"[{row.error_code}]{attempts} {row.error_message}"
    return Sentence(
        topic, text, state=str(state(row)), cause=cause, next=next_step(row), about=about
    )


def _ago(moment: Any) -> str:
    return f"{duration_text((timezone.now() - moment).total_seconds())} ago" if moment else "never"


def _time_until(moment: Any) -> str:
    return duration_text((moment - timezone.now()).total_seconds())
