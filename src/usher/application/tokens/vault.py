"""Encrypts learners' tokens for the database with the newest key. Older keys still decrypt."""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from usher.application import conf
from usher.contract.environment import Env

#: Part of the keys derived from ``SECRET_KEY``. Another text would make all tokens unreadable.
_PURPOSE = b"usher learner tokens v1"


_TEXT_OF_UNREADABLE = "A learner's token was encrypted with a key that is no longer configured."


class Unreadable(Exception):
    """No configured key decrypts this token; a new one must be obtained."""


def encrypt(text: str) -> str:
    """Encrypted text; '' stays ''."""
    return _fernet().encrypt(text.encode()).decode() if text else ""


def decrypt(encrypted: str) -> str:
    """The decrypted text; '' for ''. Raises Unreadable."""
    if not encrypted:
        return ""
    try:
        return _fernet().decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise Unreadable(_TEXT_OF_UNREADABLE) from error


def reencrypt(encrypted: str) -> str:
    """The same text encrypted with the newest key; '' for ''. Raises Unreadable."""
    if not encrypted:
        return ""
    try:
        return _fernet().rotate(encrypted.encode()).decode()
    except InvalidToken as error:
        raise Unreadable(_TEXT_OF_UNREADABLE) from error


def _fernet() -> MultiFernet:
    keys = conf.settings().encryption_keys
    if keys:
        return fernet_of_keys(keys)
    secrets = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return _fernet_of_secrets(tuple(str(secret) for secret in secrets))


@lru_cache(maxsize=4)
def fernet_of_keys(keys: tuple[str, ...]) -> MultiFernet:
    """Encrypts with the first key and decrypts with any. Raises ImproperlyConfigured if one of them
    is malformed; the message does not contain the keys."""
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(
            f"A key in {Env.USHER_ENCRYPTION_KEYS} is malformed: create one with python "
            "-c 'from cryptography.fernet import Fernet as F; print(F.generate_key().decode())'"
        ) from error


@lru_cache(maxsize=4)
def _fernet_of_secrets(secrets: tuple[str, ...]) -> MultiFernet:
    """Keys derived from ``SECRET_KEY``, for projects without ``USHER_ENCRYPTION_KEYS``."""
    fernets = []
    for secret in secrets:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE)
        fernets.append(Fernet(base64.urlsafe_b64encode(derived.derive(secret.encode()))))
    return MultiFernet(fernets)
