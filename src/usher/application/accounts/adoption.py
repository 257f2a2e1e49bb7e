"""Links users to LMS accounts that exist already, as an operator decides for each of them.

``propose`` lists the accounts that may belong to users, the operator writes a decision into each
line, and ``decide`` carries the decisions out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from usher.application.accounts.creation import not_linked_yet, token_not_linked_yet
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.naming import clean_username, reserve_for_link, why_not_linkable
from usher.application.accounts.services import adopt, record_link
from usher.application.adapter import AdapterFailed, adapter, log_failure
from usher.application.arguments import require_user
from usher.application.lms_client import client
from usher.application.tokens.models import LmsToken
from usher.application.user_model import active, primary_key_for_json, primary_key_from_text
from usher.client import batch
from usher.client.payloads import ObservedAccount
from usher.engine.clock import database_now
from usher.engine.notify import notify_workers
from usher.engine.work import NO_FAILURE

#: What a user and an LMS account must share, for ``propose``; and an operator's decisions.
BY_EMAIL, BY_USERNAME = "email", "username"
LINK, SKIP = "link", "skip"
_ROWS_AT_A_TIME = 100
#: Time between an operator's decision and the first attempt. The LMS refuses the learner until its
#: staff have run ``usher_link``; the LMS's webhook about the link makes the account due earlier.
TIME_TO_LINK = timedelta(minutes=10)


@dataclass(frozen=True)
class Proposal:
    """One line of the list: a user, and an LMS account that may be theirs. lms_user_id: '' if the
    LMS did not give it. conflict: a reason why the account may be another person's, or ''.
    decision: ``link`` or ``skip``, or '' before an operator has decided."""

    user_id: int | str
    user: str
    email: str
    lms_username: str
    lms_email: str
    lms_user_id: str
    conflict: str
    decision: str = ""


COLUMNS = tuple(field.name for field in fields(Proposal))


@dataclass(frozen=True)
class DecisionResult:
    """The outcome of one decision.

    problem: why the decision was not carried out, or ''. was_linked_before: whether an earlier call
    carried out the same decision. is_linked: whether the LMS has linked the account to the user,
    too; None if the LMS can't say. application: this application's name in the LMS, '' if the LMS
    can't say.
    """

    user: str
    lms_username: str
    problem: str = ""
    was_linked_before: bool = False
    is_linked: bool | None = None
    application: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the LMS has the link too, so that the account and its token were made due. If the
        LMS can't say, a repeated decision counts as complete: the operator has run ``usher_link``
        in the LMS since the earlier call."""
        return self.was_linked_before if self.is_linked is None else self.is_linked


def propose(by: str) -> list[Proposal]:
    """LMS accounts that may belong to active users for whom Usher has not created or linked an
    account.

    by: ``email`` or ``username``, the value that user and account must share. Changes nothing.
    Leaves out users for whom the LMS has no such account; they will get new accounts. Raises
    LmsError.
    """
    proposals = []
    client().confirm_lms()
    for users in _pages_of_users():
        accounts = _find_by_email(users) if by == BY_EMAIL else _find_by_username(users)
        proposals += [_proposal(user, accounts[user.pk]) for user in users if user.pk in accounts]
    users_by_lms_username: dict[str, list[str]] = defaultdict(list)
    for proposal in proposals:
        users_by_lms_username[proposal.lms_username.lower()].append(proposal.user)
    return [
        _with_conflict_if_shared(proposal, users_by_lms_username[proposal.lms_username.lower()])
        for proposal in proposals
    ]


def _with_conflict_if_shared(proposal: Proposal, users: list[str]) -> Proposal:
    """The proposal, with a conflict if its LMS account was found for several users."""
    other_users = [user for user in users if user != proposal.user]
    if not other_users:
        return proposal
    return replace(proposal, conflict=f"also found for {', '.join(other_users)}")


def proposals_for(user: Any) -> list[Proposal]:
    """LMS accounts that may be this user's: those with the user's e-mail address or username.

    Empty if Usher has created or linked an account for the user. Changes nothing. Raises LmsError.
    """
    require_user(user)
    if LmsAccount.objects.filter(user=user, created_in_lms_at__isnull=False).exists():
        return []
    client().confirm_lms()
    accounts = [*_find_by_email([user]).values(), *_find_by_username([user]).values()]
    # Both may be the same account.
    accounts_by_username = {account.username: account for account in accounts}
    return [_proposal(user, account) for account in accounts_by_username.values()]


def _proposal(user: Any, account: ObservedAccount) -> Proposal:
    """The proposal for this pair. If the project's adapter fails for the user, the proposal has no
    e-mail address, and the failure is its conflict."""
    try:
        email, conflict = adapter().email(user), _find_conflict(user, account)
    except AdapterFailed as error:
        email, conflict = "", error.reason
    return Proposal(
        user_id=primary_key_for_json(user),
        user=str(user.get_username()),
        email=email,
        lms_username=account.username,
        lms_email=account.email,
        lms_user_id=str(account.lms_user_id or ""),
        conflict=conflict,
    )


def _pages_of_users() -> Iterator[list[Any]]:
    """Active users for whom Usher has not created or linked an account, some at a time."""
    rows = active(get_user_model()._default_manager.all()).order_by("pk")
    rows = rows.exclude(lms_account__created_in_lms_at__isnull=False)
    users = list(rows[:_ROWS_AT_A_TIME])
    while users:
        yield users
        users = list(rows.filter(pk__gt=users[-1].pk)[:_ROWS_AT_A_TIME])


def _find_by_email(users: list[Any]) -> dict[int, ObservedAccount]:
    """User's id → the LMS account with the user's e-mail address."""
    lms, accounts = client(), {}
    for user in users:
        try:
            email = adapter().email(user)
        except AdapterFailed as error:
            log_failure(error)
            continue
        account = lms.account_by_email(email) if email else None
        if account is not None:
            accounts[user.pk] = account
    return accounts


def _find_by_username(users: list[Any]) -> dict[int, ObservedAccount]:
    """User's id → the LMS account with the user's username."""
    names = {user.pk: str(user.get_username()) for user in users}
    # Names that Usher itself would not give to an account are not searched for.
    usernames = [name for name in names.values() if clean_username(name) == name]
    accounts = client().accounts(usernames) if usernames else {}
    return {pk: accounts[name] for pk, name in names.items() if name in accounts}


def _find_conflict(user: Any, account: ObservedAccount) -> str:
    """Why the LMS account may be another person's, or not usable; '' if neither."""
    if reason := why_not_linkable(account.username, user):
        return reason
    if account.email and account.email.lower() != adapter().email(user).lower():
        return "the e-mail addresses differ"
    if not account.is_active:
        return "the LMS account is deactivated or was never activated"
    if not adapter().is_confirmed(user):
        return "the e-mail address is not confirmed here"
    return ""


def decide(rows: Iterable[Mapping[str, str]], *, application: str = "") -> Iterator[DecisionResult]:
    """Carries out the rows' decisions: for each row with ``link``, links the user to the LMS
    account.

    rows: mappings with the names in ``COLUMNS``. application: this application's name in the LMS,
    for messages; used if the LMS can't tell the name. Reads each account from the LMS again, and
    reports a problem if the operator saw another account of that name. Handles a row when the
    caller reads the row's result; a row with a problem does not stop the others. Raises LmsError.

    The call can be repeated, for example after an interruption. Repeat it also after ``usher_link``
    has run in the LMS: accounts that an earlier call linked are then made due, including refused
    accounts.
    """
    for row in rows:
        decision = (row.get("decision") or "").strip()
        if decision.lower() == LINK:
            yield _link(row, application)
        elif decision.lower() not in ("", SKIP):
            problem = f"the decision is {decision!r}: write {LINK} or {SKIP}"
            yield DecisionResult(
                row.get("user") or "", row.get("lms_username") or "", problem=problem
            )


def _link(row: Mapping[str, str], application: str) -> DecisionResult:
    """Carries out one row's decision ``link``, after checks that the user and the LMS account are
    still the ones that the operator saw. row, application: as for ``decide``."""
    name = (row.get("lms_username") or "").strip()
    user = _find_user(str(row.get("user_id") or ""))
    if user is None:
        return DecisionResult(
            row.get("user") or "", name, problem=f"no user has the id {row.get('user_id')!r}"
        )
    username = str(user.get_username())
    if username != (row.get("user") or username):
        problem = f"the user {row.get('user_id')} is {username}, not {row['user']}"
        return DecisionResult(username, name, problem=problem)
    account = client().account(name) if name else None
    # ``account`` ignores case; here the name must be spelled as in the LMS.
    if account is None or account.username != name:
        return DecisionResult(username, name, problem="the LMS has no such account")
    if str(account.lms_user_id or "") != (row.get("lms_user_id") or ""):
        return DecisionResult(
            username, name, problem="the LMS has another account of that name now"
        )
    is_linked = None  # as long as the LMS does not say
    application_in_lms = ""
    links = batch.links_of(client(), name)
    if links is not None:
        is_linked = links.leads_to == (name, account.lms_user_id)
        application_in_lms = links.application
        other_learners = [learner for learner in links.linked_from if learner != name]
        if other_learners:
            problem = f"in the LMS the learner {other_learners[0]} signs in to this account"
            return DecisionResult(username, name, problem=problem)
    try:
        is_new = _adopt(user, account, application if links is None else application_in_lms)
    except ValueError as error:
        return DecisionResult(username, name, problem=str(error))
    decision = DecisionResult(
        username,
        name,
        was_linked_before=not is_new,
        is_linked=is_linked,
        application=application_in_lms,
    )
    if decision.is_complete:
        LmsAccount.objects.filter(user=user).make_due()
        LmsToken.objects.filter(user=user).make_due()
        notify_workers(user.pk)
    return decision


def _find_user(text: str) -> Any:
    """The user whose primary key, of any type, is ``text``; None if there is no such user."""
    pk = primary_key_from_text(text.strip())
    users = get_user_model()._default_manager
    return users.filter(pk=pk).first() if pk is not None else None


def _adopt(user: Any, lms_account: ObservedAccount, application: str) -> bool:
    """Links the user to the account in this application. Returns False if they were linked before.

    If the user has a row whose account was never created, for example because the LMS refused the
    e-mail address, that row becomes the row of ``lms_account``. Raises ValueError, with the reason,
    if linking is not possible.
    """
    with transaction.atomic():
        account = LmsAccount.objects.select_for_update().filter(user=user).first()
        if account is None:
            _await_link(adopt(user, lms_account.username, lms_account.lms_user_id), application)
            return True
        if account.is_ready and account.username == lms_account.username:
            return False
        if account.is_ready:
            raise ValueError(f"the learner has the LMS account {account.username} already")
        reserve_for_link(lms_account.username, user)
        now = timezone.now()
        LmsAccount.objects.filter(pk=account.pk).update(
            username=lms_account.username,
            reserved_at=database_now(),
            created_in_lms_at=now,
            linked_at=now,
            lms_user_id=lms_account.lms_user_id,
            observed_generation=0,  # so that the account ``awaits_link``
        )
        account.username = lms_account.username
        record_link(account.username)
        LmsToken.objects.get_or_create(user=user)
        _await_link(account, application)
        return True


def _await_link(account: LmsAccount, application: str) -> None:
    """Makes the account and its token due after ``TIME_TO_LINK``. Until then, their error says that
    the LMS has not linked the account yet."""
    due_at = database_now() + TIME_TO_LINK
    for rows, error in (
        (LmsAccount.objects.filter(pk=account.pk), not_linked_yet(account.username, application)),
        (
            LmsToken.objects.filter(user_id=account.user_id),
            token_not_linked_yet(account.username),
        ),
    ):
        rows.set_work(
            **NO_FAILURE
            | {
                "due_at": due_at,
                "error_class": str(error.failure_class),
                "error_code": error.code,
                "error_message": error.message,
            }
        )
