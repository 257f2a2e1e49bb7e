"""The error of ``usher demo`` and ``usher dev``."""


class DemoError(Exception):
    """The demo can't start or continue. The message says what happened and what to do."""
