"""Usernames of temporary test learners. Usher creates such a learner to verify a connection, and
removes the learner afterwards.

Open edX does not delete accounts, so the LMS account of a removed learner stays, inactive.
"""

import re
import secrets

#: How these usernames begin. ``usher-test``: learners of ``usher connect``; ``doctor``: learners of
#: ``usher doctor --journey``.
PREFIXES = ("usher-test", "doctor")
_NAME = re.compile(rf"(?:{'|'.join(PREFIXES)})-[0-9a-f]{{8}}")


def new_username(prefix: str) -> str:
    """A new username. prefix: one of ``PREFIXES``."""
    return f"{prefix}-{secrets.token_hex(4)}"


def is_temporary_learner(username: str) -> bool:
    """Whether this is the username of a temporary test learner."""
    return _NAME.fullmatch(username) is not None
