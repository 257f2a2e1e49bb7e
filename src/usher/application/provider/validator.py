"""Usher's validator for the OAuth toolkit.

Differences from the toolkit's own: each client's policy decides about PKCE; redirect URIs are
compared exactly; a code is deleted in the transaction that creates its tokens; a code that is used
twice revokes the tokens issued for it (RFC 6749 4.1.2); deactivated users get no tokens; one query
loads all that an exchange of a code needs.
"""

from contextvars import ContextVar
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

from django.contrib.auth.hashers import check_password, identify_hasher, make_password
from django.utils import timezone
from oauth2_provider.models import (
    get_application_model,
    get_grant_model,
    get_refresh_token_model,
)
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc6749 import errors

from usher.application.audit.services import record
from usher.application.provider import claims
from usher.application.provider.hashers import ALGORITHM

#: Parameters that python-social-auth adds to the registered redirect URI.
_ADDED_PARAMETERS = {"redirect_state"}


#: Whether the client of the current request is authenticated.
client_authenticated: ContextVar[bool] = ContextVar("client_authenticated", default=False)


class UsherValidator(OAuth2Validator):
    """The methods that oauthlib and the OAuth toolkit call. The module's docstring lists where they
    differ from the toolkit's own."""

    oidc_claim_scope = None  # usher.application.provider.claims decides

    # -- clients

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        is_authentic = bool(super().authenticate_client(request, *args, **kwargs))
        client_authenticated.set(is_authentic)
        return is_authentic

    def _load_application(self, client_id: str, request: Any) -> Any:
        """The client with this id, also in ``request.client``; None if there is none. Runs no query
        if the query for the code has loaded the client."""
        if request.client and request.client.client_id == client_id:
            return request.client
        grant = getattr(request, "_usher_grant", None)
        if grant is not None and grant.application.client_id == client_id:
            request.client = grant.application
            return request.client
        request.client = None
        if _is_storable(client_id):
            clients = get_application_model().objects.select_related("usher_policy")
            request.client = clients.filter(client_id=client_id).first()
        return request.client

    def _check_secret(self, provided_secret: str, stored_secret: str) -> bool:
        """Whether the secret is right. Replaces a slow password hash with a fast one, so that only
        the first check is slow."""
        if not super()._check_secret(provided_secret, stored_secret):
            return False
        try:
            is_slow = identify_hasher(stored_secret).algorithm != ALGORITHM
        except ValueError:  # stored unhashed, as the key for HS256
            return True
        if is_slow and check_password(provided_secret, stored_secret):
            get_application_model().objects.filter(client_secret=stored_secret).update(
                client_secret=make_password(provided_secret, hasher=ALGORITHM)
            )
        return True

    def is_pkce_required(self, client_id: str, request: Any) -> bool:
        client = self._load_application(client_id or request.client.client_id, request)
        policy = getattr(client, "usher_policy", None)
        return policy is None or policy.pkce_required

    def validate_redirect_uri(
        self, client_id: str, redirect_uri: str, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Compares as text (RFC 9700 2.1), without the parameters that python-social-auth adds."""
        return _without_added_parameters(redirect_uri) in request.client.redirect_uris.split()

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Any, request: Any, *args: Any, **kw: Any
    ) -> bool:
        """``openid`` needs a client with a signature algorithm, because its ID token is signed."""
        if "openid" in scopes and not client.algorithm:
            return False
        return super().validate_scopes(client_id, scopes, client, request, *args, **kw)

    # -- codes

    def _grant(self, code: str, request: Any) -> Any:
        """The grant of an unused code, with its user and client; None if there is none. Later calls
        for the same request return the grant that was found, without a query."""
        grant = getattr(request, "_usher_grant", None)
        if grant is None and _is_storable(code):
            grant = (
                get_grant_model()
                .objects.select_related("user", "application__usher_policy")
                .filter(code=code)
                .first()
            )
            request._usher_grant = grant
        return grant

    def get_authorization_code_scopes(
        self, client_id: str, code: str, redirect_uri: str, request: Any
    ) -> list[str]:
        grant = self._grant(code, request)
        return grant.scope.split() if grant else []

    def validate_code(
        self, client_id: str, code: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        grant = self._grant(code, request)
        if grant is None:  # the code was used before, or never issued
            _revoke_tokens_of(code, client)
            return False
        if grant.application_id != client.pk or grant.is_expired() or not grant.user.is_active:
            return False
        if request.code_verifier and not grant.code_challenge:
            return False  # RFC 9700 2.1.1: somebody removed the challenge from the request
        request.scopes = grant.scope.split()
        request.user = grant.user
        request.nonce = grant.nonce or None
        return True

    def get_code_challenge(self, code: str, request: Any) -> str | None:
        return self._grant(code, request).code_challenge or None

    def get_code_challenge_method(self, code: str, request: Any) -> str | None:
        return self._grant(code, request).code_challenge_method or None

    def get_authorization_code_nonce(
        self, client_id: str, code: str, redirect_uri: str, request: Any
    ) -> str | None:
        grant = self._grant(code, request)
        return (grant.nonce or None) if grant else None

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, *args: Any, **kwargs: Any
    ) -> bool:
        request = args[0]  # oauthlib passes it after the client
        return self._grant(code, request).redirect_uri_allowed(redirect_uri)

    def invalidate_authorization_code(
        self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Does nothing: the transaction that created the tokens has deleted the code."""

    # -- tokens

    def _check_and_set_request_resource(self, request: Any) -> None:
        """As in the toolkit (RFC 8707), without a query when neither the code nor the request names
        a resource."""
        grant = getattr(request, "_usher_grant", None)
        if grant is not None and not grant.resource and not getattr(request, "resource", None):
            request.resource = []
            return
        super()._check_and_set_request_resource(request)

    def save_bearer_token(self, token: Any, request: Any, *args: Any, **kwargs: Any) -> None:
        """If a code or refresh token is exchanged twice at the same time, refuses the second
        exchange and revokes the tokens of the first (RFC 9700 4.14.2)."""
        try:
            super().save_bearer_token(token, request, *args, **kwargs)
        except _UsedMeanwhile as error:
            # Here, because the exchange's transaction is rolled back.
            _revoke_family(error.family, request.client, error.event)
            raise errors.InvalidGrantError(request=request) from error

    def _save_bearer_token(self, token: Any, request: Any, *args: Any, **kwargs: Any) -> None:
        """Runs in a transaction that begins with a write. So a second exchange at the same time
        waits for the first, and then finds that the code or refresh token has been used."""
        if request.grant_type == "authorization_code":
            deleted, _ = get_grant_model().objects.filter(pk=request._usher_grant.pk).delete()
            if not deleted:
                raise _UsedMeanwhile(_family_id(request.code), event="code-reused")
        elif request.grant_type == "refresh_token":
            used = request.refresh_token_instance
            unrevoked = get_refresh_token_model().objects.filter(pk=used.pk, revoked__isnull=True)
            if not unrevoked.update(updated=timezone.now()):
                raise _UsedMeanwhile(used.token_family, event="refresh-token-reused")
        super()._save_bearer_token(token, request, *args, **kwargs)

    def revoke_token(self, token: str, token_type_hint: str, request: Any, *args: Any) -> None:
        """Revokes a token and, for a refresh token, all tokens of the same sign-in (RFC 7009 2.1),
        because the token may have been exchanged a moment ago."""
        super().revoke_token(token, token_type_hint, request, *args)
        checksum = sha256(token.encode()).hexdigest()
        refresh_token = get_refresh_token_model().objects.filter(
            token_checksum=checksum, application=request.client
        )
        for family in set(refresh_token.values_list("token_family", flat=True)):
            get_refresh_token_model().revoke_family(family)

    def _create_refresh_token(
        self, request: Any, refresh_token_code: str, access_token: Any, previous: Any
    ) -> Any:
        """Puts the first refresh token of a code into the code's family."""
        return super()._create_refresh_token(
            request, refresh_token_code, access_token, previous or _FamilyOfCode(request)
        )

    def validate_refresh_token(
        self, refresh_token: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        is_valid = super().validate_refresh_token(refresh_token, client, request, *args, **kwargs)
        return bool(is_valid) and request.user.is_active

    # -- OpenID Connect

    def validate_silent_login(self, request: Any) -> bool:
        """``prompt=none``: the view has already answered if nobody is signed in."""
        return True

    def validate_silent_authorization(self, request: Any) -> bool:
        return bool(request.client.skip_authorization)

    def get_claim_dict(self, request: Any) -> dict[str, Any]:
        return claims.claims(request.user, set(request.scopes))

    def get_discovery_claims(self, request: Any) -> list[str]:
        return ["sub", "name", "preferred_username", "username", "email"]


class _UsedMeanwhile(Exception):
    """Another request has exchanged the same code or refresh token at the same time. family: the
    tokens to revoke. event: the name of the audit event."""

    def __init__(self, family: UUID | None, event: str) -> None:
        super().__init__(event)
        self.family, self.event = family, event


class _FamilyOfCode:
    """Stands in for the previous refresh token when the first one of a code is created, so that the
    new token gets the id of the code's family."""

    def __init__(self, request: Any) -> None:
        self.token_family = _family_id(request.code)


def _family_id(code: str) -> UUID:
    """The id of the family of tokens issued for a code; depends on the code only."""
    return UUID(bytes=sha256(b"usher-token-family:" + code.encode()).digest()[:16])


def _revoke_tokens_of(code: str, client: Any) -> None:
    """Revokes the tokens that were issued for a code that is used a second time."""
    _revoke_family(_family_id(code), client, event="code-reused")


def _revoke_family(family: UUID | None, client: Any, event: str) -> None:
    """Revokes the family's tokens and writes ``event`` to the audit log, if the family has tokens
    of this client. family: None for tokens without a family, which are not revoked."""
    tokens = get_refresh_token_model()
    if tokens.objects.filter(token_family=family, application=client).exists():
        tokens.revoke_family(family)
        record(event, subject=client.name, succeeded=False)


def _is_storable(text: str | None) -> bool:
    """Whether the text is not empty and has no NUL, which PostgreSQL rejects."""
    return text is not None and text != "" and "\x00" not in text


def _without_added_parameters(uri: str) -> str:
    """``uri`` without the parameters that python-social-auth adds to the registered URI."""
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    parameters = [(name, value) for name, value in pairs if name not in _ADDED_PARAMETERS]
    if len(parameters) == len(pairs):
        return uri
    return urlunsplit(parts._replace(query=urlencode(parameters)))
