"""Fingerprints let two sides compare a secret without showing it."""

import hashlib

_DOMAIN = b"usher-fingerprint-v1:"


def fingerprint(secret: str) -> str:
    """Twelve hex digits of a domain-separated SHA-256; '' for an empty secret.

    Only for random secrets of 128 bits and more: a guessable one could be found from it.
    """
    if not secret:
        return ""
    return hashlib.sha256(_DOMAIN + secret.encode()).hexdigest()[:12]
