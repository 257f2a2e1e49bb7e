"""Compares the desired state, the state that the application recorded, and the state of the LMS."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.journal import EnrollmentState
from benchmarks.chaos.operations import KINDS, UNKNOWN_RUN, all_enrollments, journal
from benchmarks.services import control
from usher.application.accounts.models import LmsAccount
from usher.application.runs.models import CourseRun
from usher.application.tokens import vault
from usher.application.tokens.models import LmsToken
from usher.engine.registry import all_kinds


@dataclass
class Verdict:
    """A sentence for each finding. lost: what was desired and isn't done. duplicates: what the LMS
    has in excess. wrong: what differs. refused: reason → number of rows refused for it."""

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def compare_with_lms(lms_url: str) -> dict[str, Any]:
    """Returns a dict: the fields of ``Verdict``; the numbers of operations, repeated operations,
    learners and enrollments; and ``max_attempts``, the most attempts of any row."""
    dump = control(lms_url, "dump")
    verdict = Verdict()
    refused = _check_refused_rows(verdict)
    _check_accounts(verdict, dump, refused)
    _check_enrollments(verdict, dump, refused)
    _check_tokens(verdict, dump, refused)
    _check_runs(verdict, lms_url)
    for kind, name in sorted(journal.refused - refused):
        verdict.lost.append(f"{kind} {name}: refused by the LMS, but not recorded as refused")
    for kind, name in sorted(refused - journal.refused):
        verdict.wrong.append(f"{kind} {name}: refused without a cause")
    return {
        "operations": journal.operations,
        "lost": verdict.lost,
        "duplicates": verdict.duplicates,
        "wrong": verdict.wrong,
        "refused": dict(verdict.refused),
        "max_attempts": journal.max_attempts,
        "learners": len(journal.learners),
        "enrollments": len(journal.enrollments),
        "repeated": journal.repeated,
    }


def _check_refused_rows(verdict: Verdict) -> set[tuple[str, str]]:
    """Kind and name of every refused row, except of runs that never existed. Adds a finding for a
    row without a reason."""
    refused = set()
    for kind in KINDS:
        for row in all_kinds()[kind].rows().refused():
            name = _name(kind, row)
            if kind == "run" and name == UNKNOWN_RUN:
                verdict.refused[f"{kind}: {row.error_code}"] += 1
                continue  # the enrollments in the run are refused, too
            refused.add((kind, name))
            reason = f"{row.error_code}: {_without_names(row.error_message)}"
            verdict.refused[f"{kind}: {reason}"] += 1
            if not row.error_code or not row.error_message:
                verdict.wrong.append(f"{kind} {name}: refused without a reason")
    return refused


def _name(kind: str, row: Any) -> str:
    """The row's name, as in ``Journal.refused``."""
    if kind == "run":
        return str(row.course_key)
    if kind == "enrollment":
        return f"{row.user.username} in {row.run.course_key}"
    return str(row.user.username)


def _without_names(message: str) -> str:
    """The beginning of the message without course keys, so that equal reasons are counted once."""
    return " ".join("…" if "course-v1:" in word else word for word in message.split())[:90]


def _check_accounts(verdict: Verdict, dump: dict[str, Any], refused: set[tuple[str, str]]) -> None:
    """Compares the accounts in the LMS with the journal and the application's rows. refused: kind
    and name of the refused rows."""
    rows = {row.user.username: row for row in LmsAccount.objects.select_related("user")}
    lms_accounts = {account["username"]: account for account in dump["accounts"]}

    # The learners' accounts.
    for username, email in journal.learners.items():
        row = rows.get(username)
        lms_account = lms_accounts.get(row.username) if row else None
        if row is None or lms_account is None:
            verdict.lost.append(f"account {username}: not in the LMS")
            continue
        is_own_account = lms_account["email"] == email and lms_account["uid"] == row.username
        if not is_own_account or not row.is_ready:
            verdict.wrong.append(f"account {username}: the LMS has {lms_account['email']}")

    # Linked accounts of nobody, and accounts that were created more than once.
    own_usernames = set()
    for username, row in rows.items():
        if ("account", username) not in refused:
            own_usernames.add(row.username)
    for lms_username, account in lms_accounts.items():
        if account["uid"] and lms_username not in own_usernames:
            verdict.duplicates.append(
                f"account {lms_username}: in the LMS, but not in the application"
            )
    for name, count in dump["made"].items():
        if count > 1:
            verdict.duplicates.append(f"account {name}: created {count} times")


def _check_enrollments(
    verdict: Verdict, dump: dict[str, Any], refused: set[tuple[str, str]]
) -> None:
    """Compares the enrollments in the LMS with the journal. refused: kind and name of the rows that
    the application has recorded as refused; ``journal.refused`` are those that must be refused."""
    lms_usernames = dict(LmsAccount.objects.values_list("user__username", "username"))
    in_lms = {}
    for lms_username, key, mode, is_active in dump["enrollments"]:
        in_lms[lms_username, key] = EnrollmentState(mode, is_active)

    # The enrollments in the journal.
    for (username, key), desired in journal.enrollments.items():
        actual = in_lms.pop((lms_usernames.get(username, ""), key), None)
        name = f"{username} in {key}"
        if ("enrollment", name) in journal.refused:
            continue
        if actual is None:
            # An enrollment that was ended before it was sent may be missing in the LMS.
            if desired.is_active:
                verdict.lost.append(f"enrollment {name}: not in the LMS")
        elif actual.is_active != desired.is_active:
            verdict.wrong.append(f"enrollment {name}: active is {actual.is_active} in the LMS")
        elif desired.is_active and actual.mode != desired.mode:
            verdict.wrong.append(
                f"enrollment {name}: {actual.mode} in the LMS, {desired.mode} desired"
            )

    # The rest of the enrollments in the LMS.
    for (lms_username, key), actual in in_lms.items():
        if actual.is_active:
            verdict.duplicates.append(
                f"enrollment {lms_username} in {key}: in the LMS, but not in the journal"
            )

    # The rows of the application.
    for row in all_enrollments():
        name = f"{row.user.username} in {row.run.course_key}"
        if not row.is_settled and ("enrollment", name) not in refused:
            verdict.lost.append(f"enrollment {name}: still not in the LMS: {row.error_message}")


def _check_tokens(verdict: Verdict, dump: dict[str, Any], refused: set[tuple[str, str]]) -> None:
    """Checks that each learner whose account is not refused has a token of this learner."""
    lms_usernames = dict(LmsAccount.objects.values_list("user_id", "username"))
    for row in LmsToken.objects.select_related("user"):
        username = row.user.username
        if ("account", username) in refused:
            continue
        if not row.access_token:
            verdict.lost.append(f"token of {username}: missing: {row.error_message}")
            continue
        owner = dump["access"].get(vault.decrypt(row.access_token))
        if owner != lms_usernames[row.user_id]:
            verdict.wrong.append(f"token of {username}: in the LMS it belongs to another learner")


def _check_runs(verdict: Verdict, lms_url: str) -> None:
    titles = dict(CourseRun.objects.values_list("course_key", "title"))
    lms_titles = control(lms_url, "titles")
    for key in journal.titles:
        if titles.get(key) != lms_titles[key]:
            verdict.wrong.append(
                f"run {key}: {titles.get(key)!r} in the application, {lms_titles[key]!r} in the LMS"
            )
