"""Names of learners that Usher makes to try a connection, and removes again.

An LMS never deletes an account, so that of a removed learner stays there, inactive.
"""

import re
import secrets

#: By what makes them: connect's proof, and doctor's journey.
PREFIXES = ("usher-test", "doctor")
_NAME = re.compile(rf"(?:{'|'.join(PREFIXES)})-[0-9a-f]{{8}}")


def new_name(prefix: str) -> str:
    """One that nobody has yet. prefix: of ``PREFIXES``."""
    return f"{prefix}-{secrets.token_hex(4)}"


def is_throwaway(username: str) -> bool:
    return _NAME.fullmatch(username) is not None
