"""Lines of at most 80 columns for ``manage.py check``, which prints messages as they are."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.checks import CheckMessage

from usher.contract.terminal import wrap

#: Django writes "?: (usher.W001) " in front of a message, and "HINT: " after a tab of 8 columns in
#: front of its hint.
_MESSAGE_INDENT, _HINT_INDENT = 16, 14


def wrap_messages(messages: Iterable[CheckMessage]) -> list[CheckMessage]:
    """The messages with line breaks in their texts. A line of a hint that begins with ``$ `` is a
    command and stays one line."""
    all_messages = list(messages)
    for message in all_messages:
        message.msg = wrap(message.msg, _MESSAGE_INDENT)
        if message.hint:
            # The lines begin with a tab, as the hint's first line does. A command that is too long
            # for this has fewer spaces in front of it, and is not changed.
            message.hint = wrap(message.hint, _HINT_INDENT).replace(
                "\n" + " " * _HINT_INDENT, "\n\t      "
            )
    return all_messages


def one_line(text: str) -> str:
    """A message or hint without its line breaks, for logs."""
    return " ".join(text.split())
