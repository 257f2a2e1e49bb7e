"""Text for terminals: lines of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import re
import textwrap

WIDTH = 80
#: What programs write around words to colour them.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def printable(text: str) -> str:
    """``text`` without control characters, but for line breaks: some of what is shown comes from
    learners, an application or an LMS, and could steer the operator's terminal."""
    lines = COLOURS.sub("", text).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in lines)


def wrapped(text: str, indent: int) -> str:
    """``printable(text)`` in lines that fit behind ``indent`` columns. All but the first are
    indented; the first stands behind something. Long words, such as addresses and paths, stay
    whole, and so do the text's own lines."""
    inside = [
        "\n".join(
            textwrap.wrap(line, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        )
        for line in printable(text).split("\n")
    ]
    return "\n".join(inside).replace("\n", "\n" + " " * indent)
