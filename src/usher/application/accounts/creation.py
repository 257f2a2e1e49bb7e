"""Creates and checks accounts in the LMS, by the public API or by the batch API.

Runs in the engine's network threads, so the code must not use the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from usher.application import dev_lms
from usher.application.accounts.details import Details
from usher.application.accounts.models import AWAITING_LINK
from usher.application.lms.context import LmsContext
from usher.client import batch
from usher.client.authorization import AuthorizationFlow
from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    LmsError,
    NotThere,
    Refused,
    RegistrationRefused,
)
from usher.client.ownership import (
    is_created_after,
    joined_after,
    tokens_by_both_proofs,
    tokens_by_sign_in,
)
from usher.client.payloads import ObservedAccount, TokenPair, flag, read_tokens, user_id
from usher.client.registration import register
from usher.contract.failures import FailureClass, RegistrationError
from usher.engine.kinds import Outcome

#: Error codes: an account in the LMS has the username, perhaps also the e-mail address; or the
#: learner's sign-in is linked to an account already.
TAKEN_CODES = (
    RegistrationError.DUPLICATE_USERNAME,
    RegistrationError.DUPLICATE_EMAIL_USERNAME,
    "tpa-token-already-associated",
)
#: Error codes of the batch API: the username or the e-mail address belongs to an account that is
#: not linked to the learner, or the learner is linked to an account with another username.
_LINK_MISMATCH_CODES = (*TAKEN_CODES, RegistrationError.LINKED_ELSEWHERE)
#: How often an account that may be the learner's own is checked again before it counts as
#: somebody else's: some two hours.
_MAX_UNCLEAR_ATTEMPTS = 12


class NameTaken(LmsError):
    """Another account in the LMS has the username. The learner gets another username, and the
    account is retried.

    suggestions: usernames that the LMS proposes.
    """

    failure_class = FailureClass.TRANSIENT
    default_code = "username-taken"

    def __init__(self, username: str, suggestions: Sequence[str]) -> None:
        super().__init__(
            f"Another LMS account has the username {username}; the learner gets another username."
        )
        self.suggestions = list(suggestions)


@dataclass(frozen=True)
class AccountData:
    """The data of an account's job.

    reserved_at: when the learner got the username; an older LMS account of that name is somebody
    else's. created_in_lms_at: None if the account is not known to exist. is_active: the desired
    state. lms_user_id: None if it is not known. registration_token: an access token of this
    application for the registration, '' for none. reactivate: whether to activate an account that
    is inactive in the LMS. awaits_link: see ``LmsAccount.awaits_link``. attempts: failed attempts.
    """

    account_id: int
    user_id: int
    username: str
    details: Details
    reserved_at: datetime
    created_in_lms_at: datetime | None
    is_active: bool
    lms_user_id: int | None
    registration_token: str = ""
    reactivate: bool = False
    awaits_link: bool = False
    attempts: int = 0

    def __repr__(self) -> str:
        return f"AccountData({self.username!r})"

    @property
    def is_ready(self) -> bool:
        return self.created_in_lms_at is not None


def token_not_linked_yet(username: str) -> LmsError:
    """The error of a token that waits until its account is linked in the LMS. Its message points to
    the account, whose error, ``not_linked_yet``, has the command to run."""
    message = f"The LMS has not linked its account {username} to this learner yet: see the account."
    return LmsError(message, code=AWAITING_LINK)


def not_linked_yet(username: str, application: str) -> LmsError:
    """The error of an adopted account that the LMS's staff have not linked yet; its message has the
    command to run in the LMS. application: this application's name in the LMS, '' if it is not
    known."""
    message = f"The LMS has not linked its account {username} to this learner yet."
    if not application:
        message += " In the command, NAME is this application's name in the LMS, which `usher "
        message += "status` shows."
    command = dev_lms.command_in_lms(
        f"usher_link --username {username} --application {application or 'NAME'}"
    )
    return LmsError(f"{message} {dev_lms.instruction_to_run()}: `{command}`", code=AWAITING_LINK)


def _outcome_awaiting_link(learner: AccountData, context: LmsContext) -> Outcome:
    """The outcome of an adopted account that the LMS's staff have not linked yet."""
    name = batch.application_name(context.lms, ask=True)
    return Outcome(error=not_linked_yet(learner.username, name), is_waiting=True)


@dataclass(frozen=True)
class NewAccount:
    """In ``Outcome.extra``: marks an account that the learner did not have before. tokens: the
    learner's tokens; None if they were not obtained together with the account."""

    tokens: TokenPair | None


def create_or_check(learner: AccountData, context: LmsContext) -> Outcome:
    """Creates the account by the public API, or checks an account that is known to exist. Raises
    LmsError."""
    if not learner.is_ready:
        if learner.is_active:
            return _register(learner, context)
        return _deactivate_if_created(learner, context)
    account = context.lms.account(learner.username)
    if account is None:
        require_known_accounts(context)
        # Missing in the LMS, for example after a restored backup: due immediately, to be created
        # again.
        nothing_observed = _observed_values(
            lms_user_id=None, created_in_lms_at=None, is_active=None
        )
        return Outcome(nothing_observed, changed=True, next_in=0.0)
    if learner.awaits_link and learner.is_active and account.is_active:
        return _check_link(learner, account, context)
    if learner.is_active and learner.reactivate and not account.is_active:
        raise Refused(
            f"The LMS's public API can't activate {learner.username}: install usher.lms, or "
            "activate the account in the LMS's admin.",
            code="activation-by-hand",
        )
    if learner.is_active or not account.is_active:
        # An account that the LMS's staff deactivated stays inactive.
        values = _observed_values(
            lms_user_id=account.lms_user_id,
            created_in_lms_at=learner.created_in_lms_at,
            is_active=account.is_active,
        )
        return Outcome(values)
    return _deactivate(learner, context)


def _check_link(learner: AccountData, account: ObservedAccount, context: LmsContext) -> Outcome:
    """Checks the link by signing the learner in, since the public API does not show links."""
    flow = AuthorizationFlow(context.lms, learner.user_id, context.redirect_uri, context.grant)
    tokens = tokens_by_sign_in(context.lms, flow, learner.username)
    if tokens is None:
        return _outcome_awaiting_link(learner, context)
    values = _observed_values(
        lms_user_id=account.lms_user_id,
        created_in_lms_at=learner.created_in_lms_at,
        is_active=True,
    )
    return Outcome(values, changed=True, extra=NewAccount(tokens))


def require_known_accounts(context: LmsContext) -> None:
    """Call before acting on a missing account. Raises LmsError when too many known accounts are
    missing, since another LMS or an empty database may be answering."""

    def count_missing(usernames: Sequence[str]) -> int:
        return len(usernames) - len(context.lms.existing(usernames))

    context.evidence.require("account", count_missing)


def _deactivate(learner: AccountData, context: LmsContext) -> Outcome:
    """Deactivates the account by the public API. Raises Refused if the service worker must not."""
    try:
        context.lms.deactivate_account(learner.username)
    except (AccessRefused, NotThere) as error:
        raise Refused(
            f"The LMS does not let the service worker deactivate {learner.username}: "
            "install usher.lms, or deactivate the account in the LMS's admin.",
            code="deactivation-by-hand",
        ) from error
    values = _observed_values(
        lms_user_id=learner.lms_user_id,
        created_in_lms_at=learner.created_in_lms_at,
        is_active=False,
    )
    return Outcome(values, changed=True)


def _deactivate_if_created(learner: AccountData, context: LmsContext) -> Outcome:
    """Deactivates the account of a learner who was deactivated before the account was known to
    exist: a registration whose answer was lost may have created the account.

    Does not record that the account exists. So, when the learner is activated again, the account is
    created or found like a new one, and its tokens are obtained."""
    if active_account(learner.username, learner.reserved_at, context) is None:
        return Outcome()
    return Outcome(changed=_deactivate(learner, context).changed)


def active_account(
    username: str, reserved_at: datetime | None, context: LmsContext
) -> ObservedAccount | None:
    """The account if it is active and the learner's, that is, not older than the reservation of its
    username; otherwise None. reserved_at: None when the account is known to be the learner's.
    Raises LmsError."""
    account = context.lms.account(username)
    if account is None:
        require_known_accounts(context)
    if account is None or not account.is_active:
        return None
    is_older = reserved_at is not None and not joined_after(account, reserved_at)
    return None if is_older else account


def _register(learner: AccountData, context: LmsContext) -> Outcome:
    """Registers the learner by the public API and obtains their tokens, if the LMS gives them. If
    the username is taken, finds out by the account's age and a sign-in whether an earlier
    registration created the account. Raises LmsError, such as NameTaken."""
    flow = AuthorizationFlow(context.lms, learner.user_id, context.redirect_uri, context.grant)
    try:
        registration = _register_details(learner, context)
    except RegistrationRefused as error:
        if error.code not in TAKEN_CODES:
            raise
        if not is_created_after(context.lms, learner.username, learner.reserved_at):
            raise NameTaken(learner.username, error.suggestions) from error
        tokens = tokens_by_sign_in(context.lms, flow, learner.username)
        if tokens is None:
            raise _taken_or_unclear(learner, error) from error
        # The LMS did not return the account's id; a later check reads it.
        values = _observed_values(
            lms_user_id=None, created_in_lms_at=timezone.now(), is_active=True
        )
        return Outcome(values, changed=True, extra=NewAccount(tokens))
    if registration.username != learner.username:
        raise BadAnswer(f"The LMS made {registration.username[:50]} instead of {learner.username}.")
    values = _observed_values(
        lms_user_id=registration.lms_user_id, created_in_lms_at=timezone.now(), is_active=True
    )
    tokens = _tokens_of_session(flow, registration.cookies)
    return Outcome(values, changed=True, extra=NewAccount(tokens))


def _taken_or_unclear(learner: AccountData, error: RegistrationRefused) -> LmsError:
    """The error when the username is taken by an account that was created after the username was
    reserved, and the learner's sign-in did not lead to that account.

    If the account also has the learner's e-mail address, the account is probably theirs: the LMS's
    answer to an earlier registration was lost, and the sign-in may have failed only for a moment,
    for example because this application restarts. Another username would not help, since the e-mail
    address stays taken. So the account is retried, up to ``_MAX_UNCLEAR_ATTEMPTS`` times, before
    its username counts as taken.
    """
    has_learners_email = error.code == RegistrationError.DUPLICATE_EMAIL_USERNAME
    if not has_learners_email or learner.attempts >= _MAX_UNCLEAR_ATTEMPTS:
        return NameTaken(learner.username, error.suggestions)
    return LmsError(
        f"The LMS has an account {learner.username} with the learner's e-mail address, created "
        "since the username was reserved, but the learner's sign-in did not lead to that account. "
        "The sign-in may have failed only for a moment, so it is tried again.",
        code="unclear",
    )


def _register_details(learner: AccountData, context: LmsContext) -> Any:
    """Registers the learner, and returns what ``register`` returns. If the LMS refuses the country,
    tries once more without it; if it refuses the full name, with the username in its place."""
    details = learner.details
    for _ in range(2):
        try:
            return register(
                context.lms,
                username=learner.username,
                email=details.email,
                name=details.name,
                country=details.country,
                access_token=learner.registration_token,
            )
        except RegistrationRefused as error:
            if error.code == RegistrationError.INVALID_COUNTRY and details.country:
                details = replace(details, country="")
            elif set(error.fields) == {"name"} and details.name != learner.username:
                details = replace(details, name=learner.username)
            else:
                raise
    # The LMS refused both values, one in each attempt.
    raise Refused("The LMS refuses the learner's details.", code="registration-refused")


def _tokens_of_session(flow: AuthorizationFlow, cookies: dict[str, str]) -> TokenPair | None:
    """The learner's tokens, obtained with the session that the registration opened. None if the LMS
    gives no tokens: then the token's own row is retried."""
    try:
        return flow.tokens(cookies) if cookies else None
    except LmsError:
        return None


def _observed_values(
    *, lms_user_id: int | None, created_in_lms_at: datetime | None, is_active: bool | None
) -> dict[str, Any]:
    """The values of ``AccountKind.observed_fields``."""
    return {
        "created_in_lms_at": created_in_lms_at,
        "lms_user_id": lms_user_id,
        "observed_is_active": is_active,
    }


# The batch API


def batch_item(row_id: int, username: str, details: Details, *, is_active: bool) -> dict[str, Any]:
    """One account in a request to the batch API. row_id: the LMS returns this id with the
    result."""
    return {
        "id": row_id,
        "username": username,
        "email": details.email,
        "name": details.name,
        "country": details.country,
        "is_active": is_active,
    }


def send_batch(learners: Sequence[AccountData], context: LmsContext) -> list[Outcome]:
    """Creates and checks accounts and obtains the learners' tokens, in one request to the batch
    API. Returns an outcome for each learner, in their order.

    The endpoint updates every account that is linked to this application, and creates missing ones.
    So two sorts of learners are not sent: learners whose username belongs to an older account,
    which is somebody else's; and learners whose account is to be inactive and does not exist.
    """
    if any(learner.is_ready for learner in learners):
        require_known_accounts(context)
    outcomes = _outcomes_without_request(
        [learner for learner in learners if not learner.is_ready], context
    )
    items = []
    for learner in learners:
        if learner.account_id in outcomes:
            continue
        item = batch_item(
            learner.account_id, learner.username, learner.details, is_active=learner.is_active
        )
        item |= {"tokens": _needs_tokens(learner), "reactivate": learner.reactivate}
        items.append(item)
    client_id = context.lms.who.client_id
    results = batch.send(context.lms, batch.ACCOUNTS, items, client_id=client_id) if items else {}
    return [
        outcomes.get(learner.account_id) or _result(learner, results, context)
        for learner in learners
    ]


def _needs_tokens(learner: AccountData) -> bool:
    """Whether the request also asks for the learner's tokens. It does if the account is not known
    to exist, or was adopted and is not linked in the LMS yet."""
    return learner.is_active and (not learner.is_ready or learner.awaits_link)


def _outcomes_without_request(
    learners: Sequence[AccountData], context: LmsContext
) -> dict[int, Outcome]:
    """The account row's id → outcome, for the learners who must not be sent to the LMS. learners:
    only learners whose account is not known to exist."""
    accounts = context.lms.accounts([learner.username for learner in learners]) if learners else {}
    outcomes: dict[int, Outcome] = {}
    for learner in learners:
        account = accounts.get(learner.username)
        is_someone_elses = account is not None and not joined_after(account, learner.reserved_at)
        if not learner.is_active:
            if account is None:
                require_known_accounts(context)
            if account is None or is_someone_elses or not account.is_active:
                outcomes[learner.account_id] = Outcome()  # nothing to deactivate
        elif is_someone_elses:
            # Without a registration, the LMS proposes no other usernames.
            outcomes[learner.account_id] = Outcome(error=NameTaken(learner.username, []))
    return outcomes


def _result(
    learner: AccountData, results: dict[Any, dict[str, Any]], context: LmsContext
) -> Outcome:
    """The learner's outcome from the batch API's results. Some refusals lead to further requests:
    for a learner who is not linked yet, and for the LMS's staff."""
    try:
        return _read_result(learner, batch.result_of(results, learner.account_id))
    except Refused as error:
        if error.code in _LINK_MISMATCH_CODES and learner.awaits_link:
            return _outcome_awaiting_link(learner, context)
        if error.code == RegistrationError.PROTECTED_ACCOUNT and _needs_tokens(learner):
            return _obtain_tokens_of_staff(learner, context, error)
        return Outcome(error=error)
    except LmsError as error:
        return Outcome(error=error)


def _obtain_tokens_of_staff(learner: AccountData, context: LmsContext, error: Refused) -> Outcome:
    """For an account of the LMS's staff: obtains the tokens by signing in as the learner, since the
    batch API does not return tokens of staff. If that fails, the outcome has ``error``."""
    flow = AuthorizationFlow(context.lms, learner.user_id, context.redirect_uri, context.grant)
    try:
        if learner.awaits_link:  # linked by an operator: the account's age does not matter
            tokens = tokens_by_sign_in(context.lms, flow, learner.username)
        else:
            tokens = tokens_by_both_proofs(context.lms, flow, learner.username, learner.reserved_at)
    except LmsError as problem:
        return Outcome(error=problem)
    if tokens is None:
        if learner.awaits_link:
            return _outcome_awaiting_link(learner, context)
        return Outcome(error=error)
    values = _observed_values(
        lms_user_id=learner.lms_user_id,
        created_in_lms_at=learner.created_in_lms_at or timezone.now(),
        is_active=True,
    )
    return Outcome(values, changed=True, extra=NewAccount(tokens))


def _read_result(learner: AccountData, result: dict[str, Any]) -> Outcome:
    """The outcome from the batch API's result for this learner. Raises LmsError."""
    status = result["status"]
    if status == "refused":
        error = batch.refusal_of(result)
        if error.code in _LINK_MISMATCH_CODES and not learner.is_ready and not learner.is_active:
            return Outcome()  # the LMS account is not linked to this application's learner
        if error.code in TAKEN_CODES and not learner.is_ready:
            # The LMS found no link to the learner, so the account is somebody else's, even if it is
            # younger than the reservation of the username.
            raise NameTaken(learner.username, result["error"]["suggestions"]) from error
        raise error
    if not learner.is_ready and not learner.is_active:
        return Outcome(changed=status == "updated")  # see ``_deactivate_if_created``
    if (name := result.get("username", learner.username)) != learner.username:
        raise BadAnswer(f"The LMS answered about {str(name)[:50]} instead of {learner.username}.")
    is_new = status == "created" or not learner.is_ready or _needs_tokens(learner)
    is_active = flag(result.get("is_active", learner.is_active), "whether an account is active")
    created_in_lms_at = None if status == "created" else learner.created_in_lms_at
    values = _observed_values(
        lms_user_id=user_id(result.get("lms_user_id")),
        created_in_lms_at=created_in_lms_at or timezone.now(),
        is_active=is_active,
    )
    extra = NewAccount(_tokens_in_result(result)) if is_new else None
    return Outcome(values, changed=is_new or status == "updated", extra=extra)


def _tokens_in_result(result: dict[str, Any]) -> TokenPair | None:
    data = result.get("tokens")
    # Their lifetime began a little before this answer arrived.
    return read_tokens(data, timezone.now() - timedelta(seconds=5)) if data else None
