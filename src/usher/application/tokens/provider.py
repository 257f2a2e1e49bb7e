"""Issues this application's own authorization codes and access tokens for the LMS.

The engine signs learners in at the LMS without a browser that could be redirected. So this module
writes the records that the OAuth2 provider's views would write, after the same checks.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from oauth2_provider.models import (
    get_access_token_model,
    get_application_model,
    get_grant_model,
    set_token_value,
)
from oauth2_provider.settings import oauth2_settings

from usher.application import conf
from usher.application.tokens.errors import NotConnected
from usher.client.authorization import AuthorizationRequest
from usher.client.errors import NotConfigured
from usher.contract.oauth import SCOPE_USER_READ
from usher.engine.clock import database_now

#: Seconds; short, because the LMS uses a token or code once, within the same request.
_ACCESS_TOKEN_SECONDS = 300
_GRANT_SECONDS = 60
_TOKEN_BYTES = 32


def lms_application() -> Any:
    """The OAuth2 record of the LMS at this application. Raises NotConnected, NotConfigured."""
    settings = conf.settings()
    if not settings.api_base_url:
        raise NotConfigured
    name = settings.oauth_app_name
    application = get_application_model().objects.filter(name=name).order_by("id").first()
    if application is None:
        raise NotConnected(
            f"There is no OAuth client named {name}: run `manage.py configure_instance`."
        )
    return application


def create_registration_tokens(user_ids: Iterable[int]) -> dict[int, str]:
    """Creates an access token for each learner, with the scope ``user:read``, valid for five
    minutes. Returns learner's id → token. Raises NotConnected, NotConfigured."""
    model, application = get_access_token_model(), lms_application()
    expires = database_now() + timedelta(seconds=_ACCESS_TOKEN_SECONDS)
    tokens, rows = {}, []
    for user_id in user_ids:
        tokens[user_id] = secrets.token_urlsafe(_TOKEN_BYTES)
        row = model(
            user_id=user_id, application=application, expires=expires, scope=SCOPE_USER_READ
        )
        set_token_value(row, tokens[user_id])
        rows.append(row)
    _save(rows)
    return tokens


def delete_registration_tokens(tokens: Iterable[str]) -> None:
    """Deletes tokens that were used, before they expire."""
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in tokens if token]
    if digests:
        get_access_token_model().objects.filter(token_checksum__in=digests).delete()


def grant_codes(requests: list[AuthorizationRequest]) -> list[str]:
    """An authorization code for each request, in their order, as the authorize view would issue it
    without asking the learner.

    Raises NotConnected if the LMS's OAuth2 client is missing, or if a request has another client or
    a redirect URI that isn't registered. Raises NotConfigured without an LMS.
    """
    application = lms_application()
    expires = database_now() + timedelta(seconds=_GRANT_SECONDS)
    codes, rows = [], []
    for code_request in requests:
        _require_registered(application, code_request)
        code = secrets.token_urlsafe(_TOKEN_BYTES)
        codes.append(code)
        rows.append(
            get_grant_model()(
                user_id=code_request.user_id,
                application=application,
                code=code,
                expires=expires,
                redirect_uri=code_request.redirect_uri,
                scope=SCOPE_USER_READ,
                code_challenge=code_request.code_challenge,
                code_challenge_method=code_request.code_challenge_method,
            )
        )
    _save(rows)
    return codes


def _save(rows: list[Any]) -> None:
    """Saves the rows, except rows of learners who were deleted at the same time; their codes or
    tokens will not be accepted."""
    if not rows:
        return
    objects = type(rows[0]).objects
    try:
        with transaction.atomic():
            objects.bulk_create(rows, batch_size=500)
    except IntegrityError:
        users = get_user_model().objects.filter(pk__in={row.user_id for row in rows})
        existing_ids = set(users.values_list("pk", flat=True))
        for row in rows:
            row.pk = None  # of the insert that was rolled back
        objects.bulk_create([row for row in rows if row.user_id in existing_ids], batch_size=500)


def _require_registered(application: Any, code_request: AuthorizationRequest) -> None:
    """Raises NotConnected unless the client id and the redirect URI are the application's."""
    if code_request.client_id != application.client_id:
        raise NotConnected(
            f"The LMS signs in with the client id {code_request.client_id[:100]}, but its client "
            f"id here is {application.client_id}: correct the LMS's provider record."
        )
    # The provider's own rule, which ignores the parameters that python-social-auth adds.
    validator = oauth2_settings.OAUTH2_VALIDATOR_CLASS()
    request = SimpleNamespace(client=application)
    if not validator.validate_redirect_uri(
        code_request.client_id, code_request.redirect_uri, request
    ):
        redirect = code_request.redirect_uri.partition("?")[0][:200]
        raise NotConnected(
            f"{redirect} is not a redirect URI of the OAuth client {application.name}: add it."
        )
