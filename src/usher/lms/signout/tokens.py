"""Verifies logout tokens: OpenID Connect Back-Channel Logout 1.0, section 2.6."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

import jwt
from django.core.cache import cache
from django.db import IntegrityError, transaction

from usher.contract.failures import is_storable
from usher.contract.fingerprints import fingerprint
from usher.lms import outgoing
from usher.lms.connections.models import ConnectedApplication
from usher.lms.errors import UsherLmsError
from usher.lms.signout.models import UsedToken

log = logging.getLogger(__name__)

EVENT = "http://schemas.openid.net/event/backchannel-logout"
#: Seconds by which a token's ``iat`` may differ from the clock.
TOLERANCE_SECONDS = 300
#: Seconds for which a token's id is stored: longer than the token is accepted. It is accepted until
#: ``iat`` plus the tolerance. If ``iat`` is in the future, that is up to twice the tolerance ahead.
TOKEN_ID_SECONDS = 3 * TOLERANCE_SECONDS
#: Seconds for which keys are cached, and the shortest time between two requests for an unknown key.
KEYS_SECONDS, KEYS_REFETCH_SECONDS = 3600, 30
#: Seconds to connect, and to wait for data.
KEYS_TIMEOUT = (3, 5)
#: Characters of a token.
LONGEST_TOKEN = 16_384
#: Bytes of the answer with the application's keys.
LONGEST_KEYS = 256 * 1024
#: Characters of a token's id.
LONGEST_TOKEN_ID = 64


class TokenRefused(UsherLmsError):
    """The message names the requirement that the token fails, and quotes no part of the token."""


class KeysUnavailable(TokenRefused):
    """The application's keys can't be fetched at the moment: retrying the token may succeed."""


def verify_logout_token(token: str, application: ConnectedApplication) -> str:
    """Verify the token, and return the username of the learner who signed out. A token is accepted
    once.

    Raises TokenRefused, or its subclass KeysUnavailable when the sender should retry.
    """
    if len(token) > LONGEST_TOKEN:
        raise TokenRefused("the token is too long")
    claims = _claims(token, application)
    _check_claims(claims)
    _use_once(application, claims["jti"])
    # The LMS identifies learners by username; ``sub`` may be another identifier of the application.
    username = claims.get("username") or claims.get("preferred_username") or claims.get("sub")
    if not isinstance(username, str) or not username or not is_storable(username):
        raise TokenRefused("the token names no learner: username or sub is missing or malformed")
    return username


def _claims(token: str, application: ConnectedApplication) -> dict[str, Any]:
    """The claims of a token whose signature, issuer and audience are right. Raises TokenRefused."""
    if not application.issuer or not application.jwks_url:
        raise TokenRefused(
            "this application was connected without issuer or jwks_url; run `usher connect` again"
        )
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != "RS256":
            raise TokenRefused("the token is not signed with RS256")
        try:
            return _decode(token, header, application, refetch=False)
        except (jwt.InvalidSignatureError, LookupError):
            # The application may have new keys.
            return _decode(token, header, application, refetch=True)
    except LookupError as error:
        raise TokenRefused("the token is not signed with a key of the application") from error
    # Older releases of PyJWT raise OverflowError for a time that is infinite, and RecursionError
    # for a deeply nested header.
    except (jwt.PyJWTError, OverflowError, RecursionError) as error:
        raise TokenRefused(f"the token does not verify: {type(error).__name__}") from error


def _decode(
    token: str, header: dict[str, Any], application: ConnectedApplication, *, refetch: bool
) -> dict[str, Any]:
    """The claims. Raises LookupError if no key of the application can be used for this token, and
    PyJWTError for an invalid token."""
    matching = _usable_keys(_keys(application.jwks_url, refetch=refetch), header.get("kid"))
    if not matching:
        raise LookupError
    try:
        key = jwt.PyJWK.from_dict(matching[0]).key
    except (TypeError, ValueError, AttributeError) as error:
        raise LookupError from error
    return jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience=application.client_id,
        issuer=application.issuer,
        leeway=TOLERANCE_SECONDS,
        options={"require": ["iss", "aud", "iat", "jti", "events"]},
    )


def _usable_keys(keys: list[dict[str, Any]], key_id: Any) -> list[dict[str, Any]]:
    """The RSA keys for signatures with the id ``key_id``; RSA keys of any id if ``key_id`` is None,
    which means that the token names no key."""
    usable = [key for key in keys if key.get("kty") == "RSA" and key.get("use", "sig") == "sig"]
    return [key for key in usable if key_id is None or key.get("kid") == key_id]


def _keys(jwks_url: str, *, refetch: bool = False) -> list[dict[str, Any]]:
    """The application's keys, from the cache. refetch: fetch the keys again, unless they were
    fetched less than ``KEYS_REFETCH_SECONDS`` ago. Raises KeysUnavailable."""
    cache_name = f"usher-jwks-{fingerprint(jwks_url)}"
    cached = cache.get(cache_name)
    if cached is not None and not (refetch and time.time() - cached["at"] > KEYS_REFETCH_SECONDS):
        return cached["keys"]
    failure_name = f"{cache_name}-failed"
    if cache.get(failure_name):
        # Anybody can send a token, and each would make a worker of the LMS wait for a timeout.
        raise KeysUnavailable("the application's keys can't be fetched")
    try:
        keys = _fetch_keys(jwks_url)
    except (*outgoing.NO_ANSWER, KeyError, TypeError, RecursionError) as error:
        log.warning("Keys of %s can't be fetched: %s", jwks_url, type(error).__name__)
        cache.set(failure_name, True, KEYS_REFETCH_SECONDS)
        raise KeysUnavailable("the application's keys can't be fetched") from error
    cache.set(cache_name, {"at": time.time(), "keys": keys}, KEYS_SECONDS)
    return keys


def _fetch_keys(jwks_url: str) -> list[dict[str, Any]]:
    """The keys. Raises what ``outgoing.NO_ANSWER`` names, or ValueError, KeyError, TypeError or
    RecursionError for an answer without keys."""
    with outgoing.send("GET", jwks_url, timeout=KEYS_TIMEOUT) as answer:
        answer.raise_for_status()
        body = outgoing.read_body(answer, longest=LONGEST_KEYS, seconds=sum(KEYS_TIMEOUT))
    keys = json.loads(body)["keys"]
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _check_claims(claims: dict[str, Any]) -> None:
    """Raises TokenRefused if the claims are not those of a recent logout token."""
    events = claims["events"]
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise TokenRefused("the token is not a logout token: the event is missing")
    if "nonce" in claims:
        raise TokenRefused("the token carries a nonce, as only ID tokens may")
    jti = claims["jti"]
    if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_TOKEN_ID or not is_storable(jti):
        raise TokenRefused(
            f"the token's jti is not a text of at most {LONGEST_TOKEN_ID} characters"
        )
    issued = claims["iat"]
    if not isinstance(issued, int | float) or abs(time.time() - issued) > TOLERANCE_SECONDS:
        raise TokenRefused("the token is too old, or from the future: compare the clocks")


def _use_once(application: ConnectedApplication, jti: str) -> None:
    """Record that the token was used. Raises TokenRefused if it was used before."""
    digest = hashlib.sha256(jti.encode()).hexdigest()
    try:
        with transaction.atomic():
            UsedToken.objects.create(issuer=application.issuer, jti=digest)
    except IntegrityError as error:
        raise TokenRefused("the token was used before") from error
