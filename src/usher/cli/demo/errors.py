"""What can go wrong with the demo, said so that a person knows what to do."""


class DemoError(Exception):
    """The demo can't start or go on; the message says what happened and what to do."""
