"""Fingerprints: compare a secret in the application with the one in the LMS without showing it."""

import hashlib
import hmac
from collections.abc import Mapping

#: In front of everything that is hashed here, so that no hash made elsewhere is the same.
_DOMAIN = b"usher-fingerprint-v1:"


def fingerprint(secret: str) -> str:
    """Twelve hex digits of a domain-separated SHA-256; '' for an empty secret.

    Use it only for random secrets of at least 128 bits: a shorter secret could be found by
    guessing.
    """
    if not secret:
        return ""
    return hashlib.sha256(_DOMAIN + secret.encode()).hexdigest()[:12]


def proof_of(key: str) -> str:
    """Proof that the caller has ``key``, as 64 hex digits; '' without a key. The application
    reports ``configuration_fingerprints`` only to a caller that sends this proof."""
    return hmac.new(key.encode(), _DOMAIN + b"proof", hashlib.sha256).hexdigest() if key else ""


def configuration_fingerprints(values: Mapping[str, str], key: str) -> dict[str, str]:
    """Name → fingerprint of each setting that has a value. Comparing them shows which settings of
    a running process differ from those in a file.

    ``key``: a random secret that both processes have, so that nobody else can guess a value from
    its fingerprint; without a key the result is empty. Surrounding blanks and a trailing slash do
    not count.
    """
    tidied = {name: value.strip().rstrip("/") for name, value in values.items()}
    return {
        name: fingerprint(f"{key}:{name}:{value}")
        for name, value in sorted(tidied.items())
        if key and value
    }
