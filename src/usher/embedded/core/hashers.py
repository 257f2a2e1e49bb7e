"""Fast hashers: for random secrets, which a slow hash would not protect better, and for tests."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class RandomSecretHasher(PBKDF2PasswordHasher):
    """One round, for secrets of 128 random bits or more."""

    algorithm = "random_secret"
    iterations = 1


class CheapPasswordHasher(PBKDF2PasswordHasher):
    """For benchmarks and tests only: Django's default algorithm and format with one round.

    Django's default hasher verifies these hashes too, so accounts created with this hasher stay
    usable.
    """

    iterations = 1
