"""Fingerprints compare a secret of the application with the LMS's without showing it."""

import hashlib
import hmac
from collections.abc import Mapping

_DOMAIN = b"usher-fingerprint-v1:"


def fingerprint(secret: str) -> str:
    """Twelve hex digits of a domain-separated SHA-256; '' for an empty secret.

    Only for random secrets of 128 bits and more: a guessable one could be found from it.
    """
    if not secret:
        return ""
    return hashlib.sha256(_DOMAIN + secret.encode()).hexdigest()[:12]


def proof_of(key: str) -> str:
    """What one who has ``key`` shows to be told fingerprints made with it; '' without a key."""
    return hmac.new(key.encode(), _DOMAIN + b"proof", hashlib.sha256).hexdigest() if key else ""


def configuration_fingerprints(values: Mapping[str, str], key: str) -> dict[str, str]:
    """A fingerprint for each setting, to see which of a running process differ from a file's.

    ``key`` is a random secret that both readers have, so that nobody else can guess a value from
    its fingerprint; without one there are none. Blanks and a slash at the end don't count.
    """
    tidied = {name: value.strip().rstrip("/") for name, value in values.items()}
    return {
        name: fingerprint(f"{key}:{name}:{value}")
        for name, value in sorted(tidied.items())
        if key and value
    }
