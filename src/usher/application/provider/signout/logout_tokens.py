"""Logout tokens: OpenID Connect Back-Channel Logout 1.0, section 2.4."""

import json
import time
from secrets import token_urlsafe
from typing import Any

from jwcrypto.jwt import JWT
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.utils import jwk_from_pem

#: The key in the claim ``events`` that makes a signed token a logout token.
EVENT = "http://schemas.openid.net/event/backchannel-logout"
LIFETIME_SECONDS = 120


def make(client: Any, subject: str, issuer: str) -> str:
    """A signed token which says that the learner with the LMS username ``subject`` signed out.

    The token is valid for a short time, so each delivery attempt makes a new one.
    """
    key = jwk_from_pem(oauth2_settings.OIDC_RSA_PRIVATE_KEY)
    now = int(time.time())
    token = JWT(
        header=json.dumps({"alg": "RS256", "typ": "logout+jwt", "kid": key.thumbprint()}),
        claims=json.dumps(
            {
                "iss": issuer,
                "sub": subject,
                "aud": client.client_id,
                "iat": now,
                "exp": now + LIFETIME_SECONDS,
                "jti": token_urlsafe(24),
                "events": {EVENT: {}},
            }
        ),
    )
    token.make_signed_token(key)
    return str(token.serialize())
