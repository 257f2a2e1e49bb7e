"""Text for terminals: lines of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WIDTH = 80
#: A command in a sentence: text in backticks.
_COMMAND = re.compile(r"`([^`\n]+)`")
#: A command that is written with more characters, or typed with many more, gets a line of its own,
#: so that it can be copied.
_MAX_INLINE_LENGTH, _MAX_TYPED_INLINE_LENGTH = 30, 60
#: In place of a space at which a line must not be broken. ``printable`` removes it from texts.
_SPACE = "\x1f"
#: The environment variable with which a command of ``usher`` tells the ``manage.py`` that it runs
#: how a person types this ``manage.py``. ``ARGUMENTS`` is in place of the arguments.
MANAGE_AS_TYPED, ARGUMENTS = "USHER_MANAGE_AS_TYPED", "ARGUMENTS"
#: How texts write the application's ``manage.py`` in a command.
_MANAGE = "python manage.py "
#: Escape sequences that colour text.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def end_line_of_interrupt() -> None:
    """Ends the line in which the terminal shows ``^C``, before a message about the interruption."""
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def printable(text: str) -> str:
    """``text`` without colour codes, with a space in place of a tab and � in place of other control
    characters, except for line breaks. Text of a learner, an application or an LMS could otherwise
    control the operator's terminal."""
    lines = COLOURS.sub("", text).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in lines)


def as_typed(command: str) -> str:
    """A command as the reader of this output can type it. If ``usher`` is not on PATH, names its
    file. In the output of a ``manage.py`` that a command of ``usher`` runs, names its folder and
    settings. command: may begin with ``$ ``."""
    prompt = "$ " if command.startswith("$ ") else ""
    line = command.removeprefix("$ ")
    if line.startswith("usher "):
        return f"{prompt}{_usher_program()}{line.removeprefix('usher')}"
    if line.startswith(_MANAGE) and (manage := os.environ.get(MANAGE_AS_TYPED)):
        return prompt + manage.replace(ARGUMENTS, line.removeprefix(_MANAGE))
    return command


def _usher_program() -> str:
    """The name of the program ``usher``; its path if the shell does not find it by its name."""
    program = Path(sys.executable).parent / "usher"
    if shutil.which("usher") or not program.is_file():
        return "usher"
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


class Part(NamedTuple):
    """A part of a text: sentences, or one long command."""

    text: str
    is_command: bool


def text_and_commands(text: str) -> Iterator[Part]:
    """Yields the parts of a text in their order.

    A text marks commands with backticks. A short command, such as ```usher dev```, stays in its
    sentence. A long command becomes a part of its own that a person can copy, without the backticks
    and the punctuation behind them.
    """
    start = 0
    for match in _COMMAND.finditer(text):
        command = match[1]
        if _stays_in_sentence(command):
            continue
        if sentence := text[start : match.start()].strip(" "):
            yield Part(sentence, is_command=False)
        yield Part(command, is_command=True)
        start = match.end()
        punctuation, following = text[start : start + 1], text[start + 1 : start + 2]
        if punctuation in (".", ",", ";") and following in ("", " "):
            start += 1
    # A text without a long command is yielded unchanged.
    rest = text[start:].strip(" ") if start else text
    if rest:
        yield Part(rest, is_command=False)


def _stays_in_sentence(command: str) -> bool:
    is_short = len(command) <= _MAX_INLINE_LENGTH
    return " " not in command or (is_short and len(as_typed(command)) <= _MAX_TYPED_INLINE_LENGTH)


def wrap(text: str, indent: int) -> str:
    """``printable(text)`` in lines that end at column ``WIDTH`` at the latest.

    indent: columns in front of each line; the caller has written these columns for the first line.
    If a line begins with spaces, its continuations begin with the same spaces. Long words, such as
    addresses and paths, are not broken, and line breaks in ``text`` stay. Two things are commands,
    which ``command_line`` formats: a line that begins with ``$ ``, and a long command in backticks
    (see ``text_and_commands``). A short command in backticks is not broken.
    """
    unwrapped_lines = []
    for line in printable(text).split("\n"):
        for part in _parts_of_line(line):
            if part.is_command:
                unwrapped_lines.append(as_typed(f"$ {part.text}"))
            else:
                unwrapped_lines.append(_with_typed_commands(part.text))
    first, *rest = unwrapped_lines
    if first.startswith("$ "):
        # A long command begins on a line of its own, since the caller has begun this line.
        is_short = indent + len(first) <= WIDTH
        lines = [first if is_short else "\n" + command_line(first, indent)]
    else:
        lines = [_wrapped_line(first, indent)]
    for line in rest:
        if line.startswith("$ "):
            lines.append(command_line(line, indent))
        else:
            lines.append((" " * indent + _wrapped_line(line, indent)).rstrip())
    return "\n".join(lines)


def _with_typed_commands(line: str) -> str:
    """The line with its commands as the reader can type them."""
    if line.startswith("$ "):
        return as_typed(line)
    return _COMMAND.sub(lambda match: f"`{as_typed(match[1])}`", line)


def _parts_of_line(line: str) -> list[Part]:
    """The parts of the line. A line that begins with ``$ `` is one part, which ``wrap`` recognises
    by itself; a line without text has one empty part."""
    if line.startswith("$ "):
        return [Part(line, is_command=False)]
    parts = list(text_and_commands(line))
    return parts or [Part("", is_command=False)]


def _wrapped_line(line: str, indent: int) -> str:
    """A line without long commands, wrapped. Only its continuations are indented."""
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
    """A command that a person can copy, in lines that end at column ``WIDTH`` at the latest. The
    command is indented by ``indent`` columns, or by fewer columns if it then fits on one line. A
    longer command is split into lines that end with a backslash, as in a shell. A command stays on
    one line if one of its words is too long for a line."""
    line = as_typed(line)
    if len(line) + _MIN_INDENT <= WIDTH:
        return " " * min(indent, WIDTH - len(line)) + line
    start = " " * min(indent, _MIN_INDENT)
    words = _WORDS.findall(line)
    lines = [start + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + len("  \\") <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{start}  {word}")
    # The command stays on one line if a word is too long, or a quote is not closed.
    can_be_split = max(map(len, lines)) <= WIDTH and " ".join(words) == line
    return " \\\n".join(lines) if can_be_split else start + line


#: Columns in front of a command that is too long for one line.
_MIN_INDENT = 2
#: The words of a command, with their quotes.
_WORDS = re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+""")
