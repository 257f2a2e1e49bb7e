"""Text for terminals: lines of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import textwrap

WIDTH = 80


def wrapped(text: str, indent: int) -> str:
    """``text`` in lines that fit behind ``indent`` columns. All but the first are indented; the
    first stands behind something. Long words, such as addresses and paths, stay whole, and so do
    the text's own lines."""
    inside = [
        "\n".join(
            textwrap.wrap(line, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        )
        for line in text.splitlines() or [""]
    ]
    return "\n".join(inside).replace("\n", "\n" + " " * indent)
