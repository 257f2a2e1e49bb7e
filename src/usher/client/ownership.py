"""Tells an unfinished account of this application from somebody else's.

The LMS may have made the account while the answer was lost, or the worker died before it wrote.
The next attempt is then refused as a duplicate. Taking such an account for ours by its name or
e-mail would hand a stranger's account over, so two proofs are asked for: the LMS account was made
after this name was reserved for this learner, and signing in through this application, which only
this learner can do since then, leads into exactly that account. An older account is not even
tried: the stock platform links accounts of the same e-mail when one signs in.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from usher.client.client import LmsClient
from usher.client.errors import LmsError, SignInStopped
from usher.client.payloads import AccountSeen, TokenPair
from usher.client.walk import Walk

#: The clocks of application and LMS may differ by so much.
CLOCKS_APART = timedelta(minutes=2)


def made_for_us(lms: LmsClient, username: str, reserved_at: datetime) -> bool:
    """Whether the LMS account of that name is younger than our reservation of it."""
    seen = lms.account(username)
    if seen is None:
        raise LmsError("The LMS says the name is taken but shows no such account.", code="unclear")
    return seen.username.lower() == username.lower() and is_younger(seen, reserved_at)


def is_younger(seen: AccountSeen, reserved_at: datetime) -> bool:
    """Whether the account was made after that moment; not when the LMS doesn't say."""
    return seen.date_joined is not None and seen.date_joined >= reserved_at - CLOCKS_APART


def tokens_if_ours(
    lms: LmsClient, walk: Walk, username: str, reserved_at: datetime
) -> TokenPair | None:
    """Tokens of the account when it is this learner's; None when it is somebody else's."""
    return own_tokens(lms, walk, username) if made_for_us(lms, username, reserved_at) else None


def own_tokens(lms: LmsClient, walk: Walk, username: str) -> TokenPair | None:
    """The second proof, for an account that passed the first: tokens when signing in leads into it,
    else None."""
    try:
        tokens = walk.tokens()
    except SignInStopped as error:
        if error.code == "account-disabled":
            raise
        return None
    return tokens if lms.me(tokens.access_token) == username else None
