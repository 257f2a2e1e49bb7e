"""The LMS's JSON Web Tokens: HS256 for API tokens, RS512 for the sign-in cookies."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa


def _base64url(value: int) -> str:
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def new_private_jwk() -> dict[str, str]:
    """A new RSA key of 2048 bits as a private JSON Web Key."""
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    public = numbers.public_numbers
    return {
        "kty": "RSA",
        "kid": "usher-embedded",
        "n": _base64url(public.n),
        "e": _base64url(public.e),
        "d": _base64url(numbers.d),
        "p": _base64url(numbers.p),
        "q": _base64url(numbers.q),
        "dp": _base64url(numbers.dmp1),
        "dq": _base64url(numbers.dmq1),
        "qi": _base64url(numbers.iqmp),
    }


def public_part(private_jwk: dict[str, str]) -> dict[str, str]:
    return {name: private_jwk[name] for name in ("kty", "kid", "n", "e")}


def jwt_auth(secret: str, private_jwk: str, lms_root: str) -> dict[str, Any]:
    """The platform's ``JWT_AUTH`` for one secret (HS256) and one private JWK (RS512)."""
    issuer, audience = f"{lms_root}/oauth2", "openedx"
    return {
        "JWT_VERIFY_EXPIRATION": True,
        "JWT_LEEWAY": 1,
        "JWT_DECODE_HANDLER": "edx_rest_framework_extensions.auth.jwt.decoder.jwt_decode_handler",
        "JWT_AUTH_COOKIE": "edx-jwt-cookie",
        "JWT_AUTH_COOKIE_HEADER_PAYLOAD": "edx-jwt-cookie-header-payload",
        "JWT_AUTH_COOKIE_SIGNATURE": "edx-jwt-cookie-signature",
        "JWT_AUTH_HEADER_PREFIX": "JWT",
        # Lifetimes in seconds.
        "JWT_EXPIRATION": 30,
        "JWT_IN_COOKIE_EXPIRATION": 3600,
        "JWT_LOGIN_CLIENT_ID": "login-service-client-id",
        "JWT_LOGIN_SERVICE_USERNAME": "login_service_user",
        "JWT_SUPPORTED_VERSION": "1.2.0",
        "JWT_ALGORITHM": "HS256",
        "JWT_SECRET_KEY": secret,
        "JWT_SIGNING_ALGORITHM": "RS512",
        "JWT_PRIVATE_SIGNING_JWK": private_jwk,
        "JWT_PUBLIC_SIGNING_JWK_SET": json.dumps({"keys": [public_part(json.loads(private_jwk))]}),
        "JWT_ISSUER": issuer,
        "JWT_AUDIENCE": audience,
        "JWT_ISSUERS": [{"ISSUER": issuer, "AUDIENCE": audience, "SECRET_KEY": secret}],
    }
