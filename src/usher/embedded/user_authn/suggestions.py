"""Suggests free usernames in place of one that is taken."""

import random
import re

from usher.contract.limits import USERNAME_MAX_LENGTH
from usher.embedded.student.models import username_exists_or_retired

MAX_SUGGESTIONS = 3
#: Ranges of the random number in a suggestion. The next range is tried if suggestions are missing.
_RANGES = ((0, 9), (10, 99), (100, 999), (1000, 9999), (10000, 99999))
#: Length of the longest suffix: an underscore and a number of five digits.
_SUFFIX_LENGTH = 6
#: Random numbers to try in one range.
_MAX_TRIES = 10


def _keep_word_characters(text: str) -> str:
    return "".join(re.findall(r"[\w-]+", text))


def suggest_usernames(name: str) -> list[str]:
    """Up to three free usernames made from ``name``; no suggestions for a name that isn't ASCII.

    Suggestions for "Ada Lovelace" are for example ``adalovelace``, ``a-lovelace`` and ``ada_7``;
    for "Ada" ``ada_7``, ``ada_42`` and ``ada_358``. The numbers are random.
    """
    if not name.isascii():
        return []
    words = name.lower().split(" ")
    first, last = _keep_word_characters(words[0]), _keep_word_characters(words[-1])
    suggestions: list[str] = []

    def offer(candidate: str) -> bool:
        """Add the candidate if it is free. Returns whether it was free."""
        if username_exists_or_retired(candidate):
            return False
        suggestions.append(candidate)
        return True

    if first and first != last:
        offer(f"{first}{last}"[:USERNAME_MAX_LENGTH])
        offer(f"{first[0]}-{last}"[:USERNAME_MAX_LENGTH])
    # As on the platform, not for a first name of one letter.
    if len(first) >= 2:
        stem = re.sub(r"[_-]", "", first[: USERNAME_MAX_LENGTH - _SUFFIX_LENGTH])
        for low, high in _RANGES:
            if len(suggestions) >= MAX_SUGGESTIONS:
                break
            for _ in range(_MAX_TRIES):
                if offer(f"{stem}_{random.randint(low, high)}"):  # noqa: S311 - not a secret
                    break
    return suggestions
