"""Hashes of random secrets, and random passwords.

The platform refuses single sign-on to accounts with an unusable password ("Your account is
disabled"), so every account gets a random password. The password has 256 random bits and can't be
guessed, so a slow hash would add nothing.
"""

from __future__ import annotations

import secrets

from django.contrib.auth.hashers import PBKDF2PasswordHasher, get_hashers


def random_password_hash() -> str:
    """A value for ``User.password``: the hash of a random password that nobody knows."""
    return hash_random_secret(secrets.token_urlsafe(32))


def hash_random_secret(secret: str) -> str:
    """A hash of ``secret`` that is fast to verify, if the LMS can verify PBKDF2 hashes, as by
    default; otherwise a hash as for passwords. Only for secrets of 128 random bits or more."""
    for hasher in get_hashers():
        if isinstance(hasher, PBKDF2PasswordHasher):
            return hasher.encode(secret, hasher.salt(), iterations=1)
    hasher = get_hashers()[0]
    return hasher.encode(secret, hasher.salt())
