"""Hashes of random secrets, and random passwords.

An account with an unusable password can't sign in by SSO ("Your account is disabled"), so every
account has a usable one. It is 256 bits of randomness: nothing is gained by hashing it slowly.
"""

from __future__ import annotations

import secrets

from django.contrib.auth.hashers import PBKDF2PasswordHasher, get_hashers


def random_password_hash() -> str:
    """What to put into ``User.password``."""
    return hash_of_random(secrets.token_urlsafe(32))


def hash_of_random(secret: str) -> str:
    """A hash of ``secret`` that costs nothing to verify. Only for 128 random bits and more."""
    for hasher in get_hashers():
        if isinstance(hasher, PBKDF2PasswordHasher):
            return hasher.encode(secret, hasher.salt(), iterations=1)
    hasher = get_hashers()[0]
    return hasher.encode(secret, hasher.salt())
