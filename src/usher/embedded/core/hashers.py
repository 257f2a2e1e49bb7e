"""Hashing of secrets that are random, so that slowness would protect nothing."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class RandomSecretHasher(PBKDF2PasswordHasher):
    """One round: enough for 128 random bits and more, and cheap where many are made."""

    algorithm = "random_secret"
    iterations = 1


class CheapPasswordHasher(PBKDF2PasswordHasher):
    """For benchmarks and tests only: the stock algorithm's name and format, one round.

    What it writes is verified by the stock hasher too, so data made with it stays usable.
    """

    iterations = 1
