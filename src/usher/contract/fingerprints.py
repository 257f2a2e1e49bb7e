"""Fingerprints let two sides compare a secret without showing it."""

import hashlib
from collections.abc import Mapping

_DOMAIN = b"usher-fingerprint-v1:"


def fingerprint(secret: str) -> str:
    """Twelve hex digits of a domain-separated SHA-256; '' for an empty secret.

    Only for random secrets of 128 bits and more: a guessable one could be found from it.
    """
    if not secret:
        return ""
    return hashlib.sha256(_DOMAIN + secret.encode()).hexdigest()[:12]


def configuration_fingerprint(values: Mapping[str, str]) -> str:
    """One fingerprint of settings, to see whether a running process has those of a file.

    Blanks and a slash at the end don't count, nor do settings without a value. Safe to show
    because among the values there is a random secret; '' when there is none.
    """
    used = {name: value.strip().rstrip("/") for name, value in values.items()}
    lines = sorted(f"{name}={value}" for name, value in used.items() if value)
    return fingerprint("\n".join(lines)) if lines else ""
