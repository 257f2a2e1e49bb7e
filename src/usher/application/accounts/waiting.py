"""Why the records of a learner without an LMS account wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from usher.application.accounts import eligibility
from usher.application.accounts.eligibility import INACTIVE, SENTENCES
from usher.application.accounts.models import LmsAccount
from usher.application.adapter import AdapterFailed, adapter
from usher.client.errors import CircuitOpen, LmsError, NotConfigured
from usher.contract.failures import RegistrationError

NO_ACCOUNT, REFUSED = "no-account", "account-refused"
#: The error codes of records that wait for an account.
CODES = {NO_ACCOUNT, REFUSED, *SENTENCES}
#: The LMS's error codes for an enrollment whose learner has no LMS account of this username: there
#: is none, or it is another learner's, after accounts were renamed in the LMS.
NO_OWN_ACCOUNT = ("unknown-user", RegistrationError.LINKED_ELSEWHERE.value)
#: The error codes of an account for which no request was sent.
_NOT_SENT = {CircuitOpen.default_code, NotConfigured.default_code}


def errors_by_user(user_ids: Iterable[Any]) -> dict[Any, LmsError]:
    """User's id → the error of the user's records, which says why the user's account is not ready.

    user_ids: of users whose LMS account is not known to exist, or is not linked in the LMS yet.
    """
    ids = set(user_ids)
    accounts = LmsAccount.objects.filter(user_id__in=ids).select_related("work", "user")
    accounts_by_user = {row.user_id: row for row in accounts}
    codes = _ineligibility_codes([row for row in accounts_by_user.values() if not row.is_ready])
    return {pk: _waiting_error(accounts_by_user.get(pk), codes.get(pk, "")) for pk in ids}


def _ineligibility_codes(accounts: Sequence[LmsAccount]) -> dict[Any, str]:
    """User's id → why the user may have no LMS account now, a code of ``SENTENCES``. Asks the
    adapter, since no worker may have tried the account's row yet. Leaves out eligible users, and
    users for whom the adapter fails: the account's row has that error."""
    eligible_ids = eligibility.eligible_ids([row.user_id for row in accounts])
    users = [row.user for row in accounts if row.user_id not in eligible_ids]
    codes = eligibility.ineligibility_codes(users)
    for user in users:
        try:
            eligibility.require_decision(user, adapter().is_eligible)
        except AdapterFailed:
            del codes[user.pk]
    return codes


def _waiting_error(account: LmsAccount | None, ineligibility_code: str) -> LmsError:
    """The error of the records that wait for this account. account: None if the user has no row.
    ineligibility_code: why the user may have no account now, or ''."""
    if account is not None and account.awaits_link:
        return LmsError(
            f"The record waits until the LMS account {account.username} is linked to this "
            "learner in the LMS, too.",
            code=NO_ACCOUNT,
        )
    is_inactive = account is not None and not account.is_active
    code = INACTIVE if is_inactive else ineligibility_code
    if code in SENTENCES:
        return LmsError(f"Not sent. {SENTENCES[code]}", code=code)
    text = "The record waits until the learner's LMS account is created."
    if account is None:
        return LmsError(text, code=NO_ACCOUNT)
    if account.refused_at:
        return LmsError(f"{text} It was refused: {account.error_message}", code=REFUSED)
    if account.error_code in _NOT_SENT:
        text += f" {account.error_message}"
    elif account.error_message and account.error_code not in SENTENCES:
        text += f" The last attempt failed: {account.error_message}"
    return LmsError(text, code=NO_ACCOUNT)
