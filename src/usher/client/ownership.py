"""Decides whether an LMS account that exists already is this learner's own.

The LMS may have created the account for this learner, and its answer was lost, or the worker died
before it stored the answer. The next attempt is then refused as a duplicate. The same username or
e-mail address proves nothing, because the account may be a stranger's. So two proofs are needed:

1. The LMS account was created after the username was reserved for this learner.
2. Signing the learner in through this application leads to exactly this account. Since the
   reservation, no other learner's sign-in can lead to that account.

The second proof is tried only after the first: at sign-in, the stock platform links an account with
the same e-mail address.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from usher.client.authorization import AuthorizationFlow
from usher.client.client import LmsClient
from usher.client.errors import LmsError, SignInStopped
from usher.client.payloads import ObservedAccount, TokenPair

#: How far the clocks of the application and the LMS may differ.
CLOCKS_APART = timedelta(minutes=2)


def is_created_after(lms: LmsClient, username: str, reserved_at: datetime) -> bool:
    """The first proof: whether the LMS account of that name was created after ``reserved_at``.
    Raises LmsError if the LMS doesn't show the account."""
    account = lms.account(username)
    if account is None:
        raise LmsError(
            f"The LMS says that the username {username} is taken, but shows no such account.",
            code="unclear",
        )
    return account.username.lower() == username.lower() and joined_after(account, reserved_at)


def joined_after(account: ObservedAccount, reserved_at: datetime) -> bool:
    """Whether the account was created after ``reserved_at``; False if the LMS doesn't say when the
    account was created."""
    if account.date_joined is None:
        return False
    return account.date_joined >= reserved_at - CLOCKS_APART


def tokens_by_both_proofs(
    lms: LmsClient, flow: AuthorizationFlow, username: str, reserved_at: datetime
) -> TokenPair | None:
    """The account's tokens if both proofs show that the account is this learner's; None
    otherwise."""
    return (
        tokens_by_sign_in(lms, flow, username)
        if is_created_after(lms, username, reserved_at)
        else None
    )


def tokens_by_sign_in(lms: LmsClient, flow: AuthorizationFlow, username: str) -> TokenPair | None:
    """The second proof, for an account that passed the first proof: the account's tokens if signing
    in leads to this account, else None. Raises SignInStopped if the account is disabled."""
    try:
        tokens = flow.tokens()
    except SignInStopped as error:
        if error.code == "account-disabled":
            raise
        return None
    return tokens if lms.me(tokens.access_token) == username else None
