"""Reads one learner's current state from the LMS and compares it with the desired state here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone

from usher.application import dev_lms
from usher.application.accounts import adoption
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.adapter import AdapterFailed, adapter
from usher.application.enrollments.models import Enrollment
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun
from usher.application.states import next_step
from usher.application.tokens.models import LmsToken
from usher.client import batch
from usher.client.client import LmsClient
from usher.client.errors import LmsError
from usher.client.payloads import ListedEnrollment, ObservedAccount, ObservedLinks, read_run
from usher.console import lms_requests, words
from usher.console.comparisons import Comparison, compare_fields
from usher.console.learners import tokens
from usher.console.learners.services import MAX_ENROLLMENTS, LearnerDetails, Record, desired_state

#: Advice for a difference that a repair removes.
REPAIR_ADVICE = "Repair now sends the desired value to the LMS."
#: Advice for a learner in a run that the LMS does not show.
_MISSING_RUN_ADVICE = "Publish the course run in the LMS, or unenroll the learner here."
#: The subject of the comparison of sign-in, which ``headline`` searches for.
SIGN_IN = "Sign-in"
#: The text of the page before the LMS is asked.
_NOT_COMPARED = (
    "This is the last known state of the LMS. Compare with the LMS now reads its current state."
)
_NO_COURSE = "The learner is in no course here: no enrollment was requested."
_NO_COURSE_ADVICE = (
    "There is nothing to repair. Check whether the learner enrolled with another e-mail address."
)
#: The most course runs whose dates are compared: they are read with one request.
_MAX_RUNS = 20
#: Title and attribute of each date of a run that is compared.
_DATES = (("Start", "start"), ("End", "end"), ("Enrollment end", "enrollment_end"))


@dataclass(frozen=True)
class ComparedLearner:
    """The LMS's current state of a learner. problem: why the LMS could not be read. candidates:
    accounts in the LMS that may be this learner's. alarm: a sentence about a problem that is
    urgent, or ''. command: what the LMS's staff must run to correct the sign-in, or ''."""

    at: datetime
    comparisons: list[Comparison] = field(default_factory=list)
    candidates: list[adoption.Proposal] = field(default_factory=list)
    problem: str = ""
    alarm: str = ""
    command: str = ""

    @property
    def difference_count(self) -> int:
        return sum(bool(comparison.differs) for comparison in self.comparisons)

    @property
    def differing_records(self) -> set[tuple[str, int]]:
        """Kind and key of the records that differ from the LMS."""
        return {
            comparison.record
            for comparison in self.comparisons
            if comparison.differs and comparison.record
        }


class Headline(NamedTuple):
    """The most important finding about a learner. state: ``ok``, ``waiting``, ``warning`` or
    ``bad``. advice: what to do about the finding, or ''."""

    state: str
    text: str
    advice: str


def compare(user: Any) -> ComparedLearner:
    """Reads the LMS, which takes at most ``lms_requests.MAX_SECONDS``, and compares; changes
    nothing."""
    with lms_requests.page_requests():
        return _compare(user)


def _compare(user: Any) -> ComparedLearner:
    """As ``compare``, without a limit of time."""
    now = timezone.now()
    row = LmsAccount.objects.filter(user=user).first()
    try:
        if row is None or not row.is_ready:
            return ComparedLearner(now, candidates=adoption.proposals_for(user))
        lms = client()
        account = lms.account(row.username)
        links = batch.links_of(lms, row.username)
        alarm = _alarm(row, links)
        sign_in = compare_sign_in(row, links)
        if account is None:
            comparisons = [_missing_account(row, links), sign_in]
            alarm = alarm or f"The LMS has no account {row.username} any more."
        else:
            enrollments = list(lms.enrollments_of([row.username]))
            comparisons = [*_compare_account(user, row, account), sign_in]
            if account.is_active:
                comparisons += _compare_token(row, user)
            comparisons += _compare_enrollments(user, enrollments)
            comparisons += _compare_run_dates(lms, user)
    except LmsError as error:
        return ComparedLearner(now, problem=f"{error.message} [{error.code}]")
    comparisons.sort(key=lambda comparison: not comparison.differs)  # differences first
    return ComparedLearner(now, comparisons, alarm=alarm, command=_link_command(row, links))


def headline(learner: LearnerDetails, compared: ComparedLearner | None) -> Headline:
    """The most important finding about the learner. compared: the comparison with the LMS on this
    page; None if the LMS was not asked."""
    stored_headline = _stored_headline(learner)
    if compared is None or compared.problem:
        return stored_headline
    differing = [comparison for comparison in compared.comparisons if comparison.differs]
    if compared.alarm:
        return Headline("bad", compared.alarm, _advice_about_alarm(compared, differing))
    if stored_headline.state == "ok":
        return _headline_of_differences(differing)
    if not compared.candidates and _is_email_taken(learner):
        return stored_headline._replace(advice=_RETIRED_ADDRESS_ADVICE)
    return stored_headline


def _advice_about_alarm(compared: ComparedLearner, differing: list[Comparison]) -> str:
    """The first advice of a difference; '' if there is none. If the LMS's staff must run a command,
    the advice is about sign-in, which that command corrects."""
    relevant = differing
    if compared.command:
        about_sign_in = [comparison for comparison in differing if comparison.subject == SIGN_IN]
        relevant = about_sign_in or differing
    for comparison in relevant:
        if comparison.advice:
            return comparison.advice
    return ""


def _headline_of_differences(differing: list[Comparison]) -> Headline:
    """The headline of a learner whose records are in sync according to the database."""
    if not differing:
        text = "All of this learner's records in the LMS have the desired state."
        return Headline("ok", text, advice="")
    first = differing[0]
    if len(differing) == 1:
        text = f"{first.subject} in the LMS: {first.in_lms}. Desired: {first.here}."
    else:
        subjects = ", ".join(comparison.subject for comparison in differing)
        text = f"{len(differing)} differences in the LMS: {subjects}."
    return Headline("warning", text, first.advice)


def _stored_headline(learner: LearnerDetails) -> Headline:
    """Like ``headline``, from the database alone, without a request to the LMS."""
    state, text = learner.verdict
    if state == "ok":
        if not any(record.kind == "enrollment" for record in learner.records):
            return Headline("warning", _NO_COURSE, _NO_COURSE_ADVICE)
        return Headline(state, text, _NOT_COMPARED)
    if not learner.is_active:
        advice = (
            "If the reason no longer applies, activate the user in the admin; a worker then "
            "activates the LMS account."
        )
        return Headline(state, text, advice)
    if learner.unsettled:
        return Headline(state, text, _cause_and_advice(learner.unsettled[0]))
    if learner.account is None:
        # The learner's notes already say why there is no account.
        return Headline(state, text, advice="" if learner.notes else _NO_COURSE)
    if any(record.is_missing for record in learner.records):
        return Headline(state, text, _MISSING_RUN_ADVICE)
    return Headline(state, text, advice="")


def _is_email_taken(learner: LearnerDetails) -> bool:
    """Whether the LMS refuses to create the account because of the e-mail address."""
    account = learner.account
    return account is not None and not account.is_ready and "email" in account.error_code


#: The advice if the LMS refuses an e-mail address and shows no account that has it.
_RETIRED_ADDRESS_ADVICE = (
    "The LMS shows no account with this address, but never releases the address of a retired "
    "account: the learner needs another address."
)


def _cause_and_advice(record: Record) -> str:
    """The LMS's last error and the record's next step, in one text."""
    next_step = record.advice or record.next
    if not record.cause:
        return next_step
    cause = f"{record.cause_label}: {record.cause}"
    if not cause.endswith((".", "!", "?")):
        cause += "."
    return f"{cause} {next_step}" if next_step else cause


def _missing_account(row: LmsAccount, links: ObservedLinks | None) -> Comparison:
    """The comparison for an account that the LMS does not have. links: None if the LMS does not
    report links."""
    signs_in_elsewhere = links is not None and links.leads_to is not None
    if signs_in_elsewhere:
        advice = "Usernames must never change: see Sign-in."
    else:
        advice = (
            "Repair now creates the account and the enrollments again. The learner's work in the "
            "LMS can be restored only from the LMS's backup."
        )
    return Comparison(
        "LMS account",
        here=row.username,
        in_lms="none",
        differs=True,
        advice=advice,
        record=("account", row.pk),
    )


def _compare_account(user: Any, row: LmsAccount, account: ObservedAccount) -> Iterator[Comparison]:
    """Compares whether the account is active, and its e-mail address and name."""
    if row.is_active == account.is_active:
        advice = ""
    elif row.is_active:
        advice = (
            "Staff of the LMS deactivated the account: ask them why. Then activate it there, or "
            "with the action “Activate in the LMS” in the admin here."
        )
    else:
        advice = REPAIR_ADVICE
    yield Comparison(
        "Account",
        here="active" if row.is_active else "deactivated",
        in_lms="active" if account.is_active else "deactivated",
        differs=row.is_active != account.is_active,
        advice=advice,
        record=("account", row.pk),
    )
    profile = LmsProfile.objects.filter(user=user).first()
    email = _from_adapter("email", user)
    if email:  # '' if the adapter has no value, or failed: nothing to compare
        differs = email.lower() != account.email.lower()
        yield Comparison(
            "E-mail",
            here=email,
            in_lms=account.email,
            differs=differs,
            advice=_profile_advice(profile, email) if differs else "",
        )
    name = _from_adapter("full_name", user)
    if name:
        differs = name != account.name
        yield Comparison(
            "Name",
            here=name,
            in_lms=account.name,
            differs=differs,
            advice=_profile_advice(profile, name) if differs else "",
        )


def _from_adapter(method: str, user: Any) -> str:
    """Returns the result of a method of the project's adapter for the user; '' if the method fails.
    The page shows the failure elsewhere."""
    try:
        return str(getattr(adapter(), method)(user))
    except AdapterFailed:
        return ""


def _profile_advice(profile: LmsProfile | None, desired: str) -> str:
    """Advice for a name or address that differs from the desired one. The LMS may have refused the
    desired one, for example because another account has the address. profile: None if no change was
    ever requested."""
    if profile is None or not profile.refused_at:
        return REPAIR_ADVICE
    advice = words.advice(profile.error_code, "profile", words.REPAIR_LABEL)
    is_address = "@" in desired
    owner = client().account_by_email(desired) if is_address else None
    return f"The LMS account {owner.username} has this address. {advice}" if owner else advice


def _compare_enrollments(user: Any, listed: list[ListedEnrollment]) -> Iterator[Comparison]:
    """Compares the newest ``MAX_ENROLLMENTS`` records of enrollments with the LMS's list. Also
    yields active enrollments of the list that have no record."""
    listed_by_key = {enrollment.course_key: enrollment for enrollment in listed}

    # Records here, compared with the list.
    rows = Enrollment.objects.filter(user=user).select_related("run").order_by("-id")
    for row in rows[:MAX_ENROLLMENTS]:
        enrollment = listed_by_key.pop(row.run.course_key, None)
        actual = "not enrolled"
        if enrollment is not None and enrollment.is_active:
            actual = f"enrolled as {enrollment.mode}"
        desired = desired_state(row)
        # A record without a mode is as in the LMS, whatever that is.
        differs = bool(row.mode) and desired != actual
        yield Comparison(
            str(row.run),
            here=desired,
            in_lms=actual,
            differs=differs,
            advice=_enrollment_advice(row) if differs else "",
            record=("enrollment", row.pk),
        )

    # Enrollments of the list without a record here. Older records are not compared.
    older_rows = Enrollment.objects.filter(user=user, run__course_key__in=list(listed_by_key))
    for key in older_rows.values_list("run__course_key", flat=True):
        del listed_by_key[key]
    known_runs = CourseRun.objects.filter(course_key__in=listed_by_key)
    known_keys = set(known_runs.values_list("course_key", flat=True))
    for key, unrecorded in listed_by_key.items():
        if not unrecorded.is_active:
            continue
        advice = "This application has no such course run."
        if key in known_keys:
            advice = (
                "This enrollment has no record here, so Repair now does not change it. Unenroll "
                "the learner in the LMS, or enroll them here."
            )
        yield Comparison(
            key,
            here="no record here",
            in_lms=f"enrolled as {unrecorded.mode}",
            differs=True,
            advice=advice,
        )


def _enrollment_advice(row: Enrollment) -> str:
    if row.refused_at:
        return words.advice(row.error_code, "enrollment", words.REPAIR_LABEL)
    if row.run.missing_since:
        return f"The LMS does not show this course run. {_MISSING_RUN_ADVICE}"
    if not row.is_settled:
        return next_step(row)
    return (
        "Somebody changed the enrollment in the LMS. If that was a mistake, Repair now sends "
        f"“{desired_state(row)}” to the LMS again."
    )


def _compare_run_dates(lms: LmsClient, user: Any) -> Iterator[Comparison]:
    """Yields the differing dates of the learner's runs. Leaves out runs that were never synced."""
    rows = Enrollment.objects.filter(user=user, is_active=True, run__observed_at__isnull=False)
    newest_rows = rows.select_related("run").order_by("-id")[:_MAX_RUNS]
    runs = {row.run.course_key: row.run for row in newest_rows}
    if not runs:
        return
    advice = "Synchronise now, on the page of the course run, copies the date here."
    for key, raw in sync.runs_by_key(lms, list(runs)).items():
        run = runs[key]
        for comparison in compare_fields(run, read_run(raw), _DATES):
            if comparison.differs:
                subject = f"{comparison.subject} of {run}"
                yield replace(comparison, subject=subject, advice=advice)


# The account that the learner signs in to


def compare_sign_in(row: LmsAccount, links: ObservedLinks | None) -> Comparison:
    """Compares the account into which the LMS signs the learner in with the learner's own account.
    links: None if the LMS does not report links."""

    def comparison(in_lms: str, *, differs: bool | None, advice: str = "") -> Comparison:
        return Comparison(
            SIGN_IN,
            here=f"into {row.username}",
            in_lms=in_lms,
            differs=differs,
            advice=advice,
            record=("account", row.pk),
        )

    if links is None:
        advice = "Only an LMS with usher.lms reports the account to which sign-in leads."
        return comparison("", differs=None, advice=advice)
    if links.leads_to is None:
        if links.exists:
            advice = (
                "The LMS does not link the learner to the account. Staff of the LMS must run the "
                "command below; then choose Repair now."
            )
        else:
            advice = "The learner is linked when the account is created."
        return comparison("not linked", differs=True, advice=advice)
    name, lms_id = links.leads_to
    if name == row.username:
        return comparison(f"into {name}", differs=False)
    if _is_renamed(row, links):
        advice = (
            f"This is the learner's account (id {lms_id}) under another name: staff of the LMS "
            "changed its username. Usernames must never change. Change the username back to "
            f"{row.username} in the LMS's admin, before any repair."
        )
    elif links.exists:
        advice = "This is another learner's account. See the command below."
    else:
        advice = (
            f"The LMS has no account {row.username}. Find out in the LMS's admin whether {name} is "
            "that account under a new name, or another learner's account."
        )
    return comparison(f"into {name}", differs=True, advice=advice)


def _is_renamed(row: LmsAccount, links: ObservedLinks) -> bool:
    """Whether the LMS has the learner's account under another username."""
    if links.exists or links.leads_to is None or not row.lms_user_id:
        return False
    _, lms_id = links.leads_to
    return lms_id == row.lms_user_id


def _name_after_sign_in(links: ObservedLinks) -> str:
    """The username of the LMS account that the learner signs in to; '' if the learner is not
    linked."""
    if links.leads_to is None:
        return ""
    name, _ = links.leads_to
    return name


def _alarm(row: LmsAccount, links: ObservedLinks | None) -> str:
    """A sentence about an urgent problem of sign-in: the learner can't sign in to their account or
    signs in to another one, the account was renamed, or somebody else signs in to it. '' if sign-in
    is right or unknown, or if the LMS has neither the account nor a link. links: None if the LMS
    does not report links."""
    if links is None:
        return ""
    name = _name_after_sign_in(links)
    if name and name != row.username:
        if _is_renamed(row, links):
            return f"The LMS account was renamed to {name}."
        return f"The learner signs in to another account of the LMS: {name}."
    others = [other for other in links.linked_from if other != row.username]
    if others:
        return f"Somebody else signs in to this learner's LMS account: {', '.join(others)}."
    if links.exists and not name:
        return f"The LMS does not let the learner in to the account {row.username}."
    return ""


def _link_command(row: LmsAccount, links: ObservedLinks | None) -> str:
    """Returns the command with which the LMS's staff correct the sign-in; '' if sign-in is right or
    unknown, or the account is missing. links: None if the LMS does not report links. Usher does not
    run the command: no application may assign an LMS account to a person."""
    if links is None or not links.exists:
        return ""
    name = _name_after_sign_in(links)
    if name == row.username:
        return ""
    move = " --move" if name else ""
    return dev_lms.command_in_lms(
        f"usher_link{move} --username {row.username} --application {links.application}"
    )


def _compare_token(row: LmsAccount, user: Any) -> Iterator[Comparison]:
    """Yields the result of checking the learner's token; nothing if there is no record of one."""
    token = LmsToken.objects.filter(user=user).first()
    if token is not None:
        token_state = tokens.check(token, row.username)
        yield Comparison(
            "Token",
            here=f"valid, of {row.username}",
            in_lms=token_state.result,
            differs=token_state.is_wrong,
            advice=token_state.advice,
            record=("token", token.pk),
        )
