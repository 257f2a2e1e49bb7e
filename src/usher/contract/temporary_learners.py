"""Usernames of test learners, which Usher creates to verify a connection and then removes.

Open edX does not delete accounts, so the LMS account of a removed test learner stays, inactive.
"""

import re
import secrets

#: How these usernames begin: those of ``usher connect``, which verifies a connection with a test
#: learner, and those of ``usher doctor --journey``.
PREFIXES = ("usher-test", "doctor")
_NAME = re.compile(rf"(?:{'|'.join(PREFIXES)})-[0-9a-f]{{8}}")


def new_username(prefix: str) -> str:
    """A new username. prefix: one of ``PREFIXES``."""
    return f"{prefix}-{secrets.token_hex(4)}"


def is_temporary_learner(username: str) -> bool:
    """Whether this is the username of a test learner."""
    return _NAME.fullmatch(username) is not None
