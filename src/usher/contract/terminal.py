"""Text for terminals: lines of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator

WIDTH = 80
#: A command in a sentence: text in backticks.
_COMMAND = re.compile(r"`([^`\n]+)`")
#: A command with more characters gets a line of its own, so that it can be copied.
_MAX_INLINE_LENGTH = 30
#: In place of a space at which a line must not be broken. ``printable`` removes it from texts.
_SPACE = "\x1f"
#: Escape sequences that colour text.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def end_line_of_interrupt() -> None:
    """Ends the line in which the terminal shows ``^C``, before a message about the interruption."""
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def printable(text: str) -> str:
    """``text`` without control characters other than line breaks. Text that comes from learners, an
    application or an LMS could otherwise send commands to the operator's terminal."""
    lines = COLOURS.sub("", text).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in lines)


def text_and_commands(text: str) -> Iterator[tuple[str, bool]]:
    """The sentences and the long commands of a text, in order, and whether each is a command.

    A text marks commands with backticks. A short command, such as ```usher dev```, stays in its
    sentence. A long command becomes a part of its own that a person can copy, without the backticks
    and the punctuation behind them.
    """
    start = 0
    for match in _COMMAND.finditer(text):
        command = match[1]
        if len(command) <= _MAX_INLINE_LENGTH or " " not in command:
            continue
        if before := text[start : match.start()].strip(" "):
            yield before, False
        yield command, True
        start = match.end()
        if text[start : start + 1] in (".", ",", ";") and text[start + 1 : start + 2] in ("", " "):
            start += 1
    if rest := text[start:].strip(" ") if start else text:
        yield rest, False


def wrap(text: str, indent: int) -> str:
    """``printable(text)``, wrapped to end at column ``WIDTH``. Every line but the first is indented
    by ``indent`` columns; the caller has already written ``indent`` columns in front of the first
    line. A line that begins with spaces keeps them in its continuations. Long words, such as
    addresses and paths, are not broken, and line breaks in ``text`` stay. A line that begins with
    ``$ `` is a command; see ``command_line``. So is a long command in backticks (see
    ``text_and_commands``); a short one is not broken."""
    first, *rest = [
        f"$ {piece}" if is_command else piece
        for line in printable(text).split("\n")
        for piece, is_command in _pieces_of_line(line)
    ]
    lines = [first if first.startswith("$ ") else _wrapped_line(first, indent)]
    for line in rest:
        if line.startswith("$ "):
            lines.append(command_line(line, indent))
        else:
            lines.append((" " * indent + _wrapped_line(line, indent)).rstrip())
    return "\n".join(lines)


def _pieces_of_line(line: str) -> list[tuple[str, bool]]:
    return [(line, False)] if line.startswith("$ ") else [*text_and_commands(line)] or [("", False)]


def _wrapped_line(line: str, indent: int) -> str:
    unbroken = _COMMAND.sub(lambda match: match[0].replace(" ", _SPACE), line)
    lines = textwrap.wrap(
        unbroken,
        WIDTH - indent,
        subsequent_indent=" " * (len(line) - len(line.lstrip())),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return ("\n" + " " * indent).join(lines).replace(_SPACE, " ")


def command_line(line: str, indent: int) -> str:
    """A command to copy, which ends at column ``WIDTH``. The command is indented by ``indent``
    columns, or by fewer if it then fits on one line. A longer command is split into lines that end
    with a backslash, as in a shell. It stays whole if one of its words is too long for a line."""
    if len(line) + _LEAST_INDENT <= WIDTH:
        return " " * min(indent, WIDTH - len(line)) + line
    start = " " * min(indent, _LEAST_INDENT)
    words = _WORDS.findall(line)
    lines = [start + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + len("  \\") <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{start}  {word}")
    # The command stays whole if a word is too long, or a quote is not closed.
    fits = max(map(len, lines)) <= WIDTH and " ".join(words) == line
    return " \\\n".join(lines) if fits else start + line


#: Columns in front of a command that is too long for one line.
_LEAST_INDENT = 2
#: The words of a command, with their quotes.
_WORDS = re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+""")
