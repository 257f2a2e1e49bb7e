"""Lists the differences between the application and the LMS, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from usher.application.accounts.eligibility import ineligibility_code
from usher.application.accounts.kinds import is_to_be_activated
from usher.application.accounts.models import LmsAccount
from usher.application.adapter import AdapterFailed, adapter
from usher.application.enrollments.models import Enrollment
from usher.application.lms.options import LMS, options
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun
from usher.application.runs.services import PATIENCE_SECONDS
from usher.client import batch
from usher.client.client import LmsClient
from usher.client.payloads import ListedEnrollment, ObservedAccount, read_run
from usher.engine.options import options as engine_options

#: The kinds that can be compared.
KINDS = ("account", "enrollment", "run")
#: Learners in one request: the platform's limit.
_LEARNERS_A_REQUEST = 100
#: Requests that are sent concurrently for one slice of learners.
_REQUESTS_A_SLICE = 8
#: Accounts in a slice; each needs a request of its own.
_ACCOUNTS_A_SLICE = 200
_WAITS = "waits for the worker"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Difference:
    """One difference.

    kind: one of ``KINDS``. what: the learner or the run. field: the field that differs. here,
    there: the values in the application and in the LMS. note: the cause, if it is known, else ''.
    action: what ``reconcile --recheck`` would do; '' for nothing.
    """

    kind: str
    what: str
    field: str
    here: str
    there: str
    note: str = ""
    action: str = ""


def drift(
    kinds: Iterable[str] = KINDS, *, user: Any = None, run: Any = None
) -> Iterator[Difference]:
    """Yields each difference as soon as it is found. user, run: only differences of this learner or
    this run. Leaves out learners without an LMS account who may have none now. Iterating raises
    LmsError when the LMS does not answer."""
    lms = client()
    if "account" in kinds and run is None:
        yield from _accounts(lms, user)
    if "enrollment" in kinds:
        yield from _enrollments(lms, user, run)
    if "run" in kinds and user is None:
        yield from _runs(lms, run)


def _accounts(lms: LmsClient, user: Any) -> Iterator[Difference]:
    """The differences of all accounts, or of this user's."""
    email_action = "change it in the LMS" if _changes_emails(lms) else ""
    accounts = LmsAccount.objects.select_related("user")
    if user is not None:
        accounts = accounts.filter(user=user)
    for rows in _slices(accounts, _ACCOUNTS_A_SLICE):
        for row, account in _concurrently(rows, lambda row: lms.account(row.username)):
            if account is not None:
                yield from _account(row, account, email_action)
            elif row.is_active:
                yield from _missing_account(row)


def _account(row: LmsAccount, account: ObservedAccount, email_action: str) -> Iterator[Difference]:
    """The differences of one account that the LMS has. email_action: what ``reconcile --recheck``
    does about another e-mail address, or ''."""
    if not row.is_ready:
        yield _difference_of_account(
            row,
            field="exists",
            here="no",
            there="yes",
            action="record it if it is the learner's own, otherwise choose another username",
        )
    elif row.is_active != account.is_active:
        yield _activation_difference(row, is_active_in_lms=account.is_active)
    try:
        email = adapter().email(row.user)
    except AdapterFailed as error:
        yield Difference(
            kind="account",
            what=row.username,
            field="email",
            here=f"({error.reason})",
            there=account.email,
        )
        return
    if account.email.lower() != email.lower():
        yield _difference_of_account(
            row, field="email", here=email, there=account.email, action=email_action
        )


def _missing_account(row: LmsAccount) -> Iterator[Difference]:
    """The difference of an active account that the LMS does not have; none if the learner may have
    no account now. If the adapter fails to decide that, the difference has no action."""
    action = "create it again" if row.is_ready else "create it"
    if not row.is_ready:
        try:
            if ineligibility_code(row.user):
                return
        except AdapterFailed as error:
            yield Difference(
                kind="account",
                what=row.username,
                field="exists",
                here="yes",
                there="no",
                note=error.reason,
            )
            return
    yield _difference_of_account(row, field="exists", here="yes", there="no", action=action)


def _difference_of_account(
    row: LmsAccount, *, field: str, here: str, there: str, action: str
) -> Difference:
    return Difference(
        kind="account",
        what=row.username,
        field=field,
        here=here,
        there=there,
        note=_note_of_row(row),
        action=action,
    )


def _changes_emails(lms: LmsClient) -> bool:
    """Whether e-mail addresses can be changed in the LMS, which only the batch API can do."""
    capabilities = batch.capabilities(lms) if options().use_batch_api else None
    return batch.ACCOUNTS in (capabilities or ())


def _activation_difference(row: LmsAccount, *, is_active_in_lms: bool) -> Difference:
    """The difference of an account that is active only here, or only in the LMS."""
    here, there = _yes_no(row.is_active), _yes_no(is_active_in_lms)
    if not row.is_active or is_to_be_activated(row):
        action = "activate it" if row.is_active else "deactivate it"
        return _difference_of_account(row, field="active", here=here, there=there, action=action)
    # The LMS's staff deactivated the account, which ``reconcile`` does not undo.
    return Difference(
        kind="account",
        what=row.username,
        field="active",
        here=here,
        there=there,
        note="deactivated in the LMS until somebody activates it, in the LMS or here",
    )


def _enrollments(lms: LmsClient, user: Any, run: Any) -> Iterator[Difference]:
    """The differences of all enrollments, or of those of this user or in this run."""
    ready = LmsAccount.objects.filter(created_in_lms_at__isnull=False)
    if user is not None:
        ready = ready.filter(user=user)
    for accounts in _slices(ready, _LEARNERS_A_REQUEST * _REQUESTS_A_SLICE):
        names = {account.user_id: account.username for account in accounts}
        in_lms = _enrollments_in_lms(lms, list(names.values()), run)
        rows = Enrollment.objects.filter(user_id__in=names).select_related("run")
        if run is not None:
            rows = rows.filter(run=run)
        for row in rows.iterator(chunk_size=500):
            what = f"{names[row.user_id]} in {row.run.course_key}"
            enrollment = in_lms.pop((names[row.user_id], row.run.course_key), None)
            yield from _enrollment(row, what, enrollment)
        # The rest have no row here.
        for (username, key), enrollment in in_lms.items():
            if enrollment.is_active:
                yield Difference(
                    kind="enrollment",
                    what=f"{username} in {key}",
                    field="exists",
                    here="no",
                    there="yes",
                    note=_note_of_unrecorded(),
                )


def _enrollments_in_lms(
    lms: LmsClient, usernames: list[str], run: Any
) -> dict[tuple[str, str], ListedEnrollment]:
    """(username, course key) → enrollment in the LMS, of all runs or of this one."""
    groups = [
        usernames[start : start + _LEARNERS_A_REQUEST]
        for start in range(0, len(usernames), _LEARNERS_A_REQUEST)
    ]
    in_lms = {}
    for _, enrollments in _concurrently(groups, lambda group: list(lms.enrollments_of(group))):
        for enrollment in enrollments:
            if run is None or enrollment.course_key == run.course_key:
                in_lms[enrollment.username, enrollment.course_key] = enrollment
    return in_lms


def _enrollment(row: Enrollment, what: str, observed: Any) -> Iterator[Difference]:
    """The difference of one enrollment, if there is one. what: learner and run. observed: the
    enrollment in the LMS, or None."""
    is_active = bool(observed and observed.is_active)
    action = "enroll" if row.is_active else "unenroll"
    if row.is_settled and options().enrollment_winner == LMS:
        action = "record the LMS's state here"
    if row.is_active != is_active:
        yield Difference(
            kind="enrollment",
            what=what,
            field="active",
            here=_yes_no(row.is_active),
            there=_yes_no(is_active),
            note=_note_of_row(row),
            action=action,
        )
    elif is_active and row.mode != observed.mode:
        if action == "enroll":
            action = f"change the mode to {row.mode}"
        yield Difference(
            kind="enrollment",
            what=what,
            field="mode",
            here=row.mode,
            there=observed.mode,
            note=_note_of_row(row),
            action=action,
        )


def _runs(lms: LmsClient, run: Any) -> Iterator[Difference]:
    """The differences of all course runs, or of this one."""
    known_runs = sync.known_runs()
    if run is not None:
        known_runs = {key: known for key, known in known_runs.items() if key == run.course_key}
    keys_not_in_lms = set(known_runs)
    for page in sync.read_pages(lms, waiting=lambda seconds: None, patience=PATIENCE_SECONDS):
        for raw in page.results:
            key = str(raw.get("course_id"))
            keys_not_in_lms.discard(key)
            known_run = known_runs.get(key)
            if known_run is None:
                if run is None:
                    yield Difference(
                        kind="run",
                        what=key,
                        field="exists",
                        here="no",
                        there="yes",
                        note=_WAITS,
                        action="add it here",
                    )
            elif known_run.digest != sync.digest(raw):
                yield from _run(known_run.pk, raw)
    missing = CourseRun.objects.filter(missing_since__isnull=False)
    marked_keys = set(missing.values_list("course_key", flat=True))
    for key in sorted(keys_not_in_lms):
        is_marked = key in marked_keys
        yield Difference(
            kind="run",
            what=key,
            field="exists",
            here="yes",
            there="no",
            note="marked as missing here" if is_marked else "",
            action="" if is_marked else "mark it as missing",
        )


def _run(pk: int, raw: dict[str, Any]) -> Iterator[Difference]:
    """The differing fields of one run. raw: the LMS's object."""
    row, observed = CourseRun.objects.get(pk=pk), read_run(raw)
    for name in sync.SYNCED_FIELDS:
        own_value, lms_value = getattr(row, name), getattr(observed, name)
        if own_value != lms_value:
            yield Difference(
                kind="run",
                what=row.course_key,
                field=name,
                here=str(own_value),
                there=str(lms_value),
                note=_note_of_row(row),
                action="copy the LMS's value",
            )


def _note_of_row(row: Any) -> str:
    """Why the row's difference is not removed yet, if the row says so; else ''."""
    if row.refused_at:
        return f"refused: {row.error_message}"
    if row.due_at:
        return f"{_WAITS}: {row.error_message}" if row.error_message else _WAITS
    return ""


def _note_of_unrecorded() -> str:
    if options().adopt_enrollments:
        return "created in the LMS; reconcile --kind enrollment --recheck records it here"
    return "created in the LMS; not recorded here, because USHER_ADOPT_ENROLLMENTS is False"


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _slices(rows: Any, size: int) -> Iterator[list[Any]]:
    """Reads the rows in slices by ascending id, so that memory does not grow with the table."""
    last_pk = 0
    while page := list(rows.filter(pk__gt=last_pk).order_by("pk")[:size]):
        yield page
        last_pk = page[-1].pk


def _concurrently(items: list[T], request: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with the result of its request; the requests run in several threads."""
    with ThreadPoolExecutor(engine_options().concurrency) as pool:
        yield from zip(items, pool.map(request, items), strict=True)
