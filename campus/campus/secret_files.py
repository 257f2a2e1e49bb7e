"""Secrets that campus generates at its first start, each in a file of mode 0600."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """The file's text. If the file is missing, generates the text and writes it first. Concurrent
    processes get the same text."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary_file = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(temporary_file, path)  # fails if another process has created the file meanwhile
        except FileExistsError:
            pass
        finally:
            temporary_file.unlink()
    return path.read_text()


def random_key() -> str:
    """A random string for SECRET_KEY."""
    return secrets.token_urlsafe(48)


def encryption_key() -> str:
    """A Fernet key."""
    return Fernet.generate_key().decode()


def rsa_key() -> str:
    """A private key of 2048 bits, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
