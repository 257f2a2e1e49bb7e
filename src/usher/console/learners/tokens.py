"""Checks whether the LMS accepts a learner's token."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from usher.application.lms_client import client
from usher.application.tokens import vault
from usher.application.tokens.models import LmsToken
from usher.client.errors import AccessRefused
from usher.console import words

_REPAIR_ADVICE = "Repair now obtains a new one."


@dataclass(frozen=True)
class TokenCheck:
    """result: what was found, in words. is_wrong: whether the token can't be used, or is of
    another account; None if there is no token to check. is_useless: whether the token can be
    deleted without loss."""

    result: str
    is_wrong: bool | None
    advice: str = ""
    is_useless: bool = False


def check(token: LmsToken, username: str) -> TokenCheck:
    """Checks whether the token is a valid token of the LMS account ``username``. The LMS is asked
    only about a token that can be decrypted and has not expired. Raises LmsError if the LMS does
    not answer, or refuses for another reason than an invalid token."""
    if not token.access_token:
        advice = "A token is obtained when it is needed."
        return TokenCheck("none yet", is_wrong=None, advice=advice)
    try:
        access_token = vault.decrypt(token.access_token)
    except vault.Unreadable:
        advice = (
            "The token was encrypted with a key that is not in USHER_ENCRYPTION_KEYS: add the key "
            f"after the newest one. If the key is lost: {_REPAIR_ADVICE}"
        )
        text = "no key of this application decrypts it"
        return TokenCheck(text, is_wrong=True, advice=advice, is_useless=True)
    if not token.is_valid_for(seconds=0):
        advice = f"The token is renewed when it is needed. {_REPAIR_ADVICE}"
        return TokenCheck(f"expired {words.ago(token.expires_at)}", is_wrong=True, advice=advice)
    try:
        owner = client().me(access_token)
    except AccessRefused as error:
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise
        advice = f"The token was revoked in the LMS before it expired. {_REPAIR_ADVICE}"
        return TokenCheck("the LMS refuses it", is_wrong=True, advice=advice, is_useless=True)
    if owner != username:
        advice = "Correct the sign-in first; then Repair now obtains a token of the right account."
        return TokenCheck(f"of {owner}", is_wrong=True, advice=advice, is_useless=True)
    return TokenCheck(f"valid, of {owner}", is_wrong=False)
