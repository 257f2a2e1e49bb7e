"""A hash for client secrets: keyed and fast.

A password hasher is slow because people choose passwords that can be guessed. A client secret is
random (128 characters from the OAuth toolkit), so it can't be guessed even with a fast hash. A slow
hash would take most of the token endpoint's time. Because of the key, a stolen database does
not even show whether two secrets are equal.
"""

import hmac
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import BasePasswordHasher, mask_hash
from django.utils.crypto import salted_hmac

ALGORITHM = "usher_keyed"
#: Part of the key, so that the hash serves no other purpose. Another text would make all secrets
#: wrong.
_PURPOSE = "usher.application.provider.client_secret"


class KeyedSecretHasher(BasePasswordHasher):
    """``usher_keyed$<salt>$<hex>``: HMAC-SHA256 with a key derived from ``SECRET_KEY``.

    Secrets that were hashed with an earlier key are accepted while that key is in
    ``SECRET_KEY_FALLBACKS``. Do not use this hasher for users' passwords, which can be guessed.
    """

    algorithm = ALGORITHM

    def encode(self, password: str, salt: str) -> str:
        return self._encode(password, salt, settings.SECRET_KEY)

    def _encode(self, password: str, salt: str, secret_key: str) -> str:
        digest = salted_hmac(
            _PURPOSE + salt, password, secret=secret_key, algorithm="sha256"
        ).hexdigest()
        return f"{self.algorithm}${salt}${digest}"

    def decode(self, encoded: str) -> dict[str, str]:
        algorithm, salt, digest = encoded.split("$", 2)
        return {"algorithm": algorithm, "salt": salt, "hash": digest}

    def verify(self, password: str, encoded: str) -> bool:
        salt = self.decode(encoded)["salt"]
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
        return any(hmac.compare_digest(self._encode(password, salt, key), encoded) for key in keys)

    def safe_summary(self, encoded: str) -> dict[Any, Any]:
        decoded = self.decode(encoded)
        return {"algorithm": self.algorithm, "hash": mask_hash(decoded["hash"])}

    def must_update(self, encoded: str) -> bool:
        return False

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Does nothing: every verification takes the same time."""
