"""Text for terminals: lines of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import re
import textwrap

WIDTH = 80
#: Escape sequences that colour text.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def printable(text: str) -> str:
    """``text`` without control characters other than line breaks. Text that comes from learners, an
    application or an LMS could otherwise send commands to the operator's terminal."""
    lines = COLOURS.sub("", text).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in lines)


def wrapped(text: str, indent: int) -> str:
    """``printable(text)``, wrapped to end at column ``WIDTH``. Every line but the first is indented
    by ``indent`` columns; the caller has already written that much in front of the first. Long
    words, such as addresses and paths, are not broken, and line breaks in ``text`` stay."""
    inside = [
        "\n".join(
            textwrap.wrap(line, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        )
        for line in printable(text).split("\n")
    ]
    return "\n".join(inside).replace("\n", "\n" + " " * indent)
