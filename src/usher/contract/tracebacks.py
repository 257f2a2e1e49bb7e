"""Summarises the output of a failed program in one sentence."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

#: For these errors the last place in the traceback is reported, even outside of the folder.
_SYNTAX_ERRORS = ("SyntaxError", "IndentationError", "TabError")
_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"
#: The error for a variable that ``os.environ`` lacks; its traceback ends in the module ``os``.
_NO_VARIABLE = re.compile(r"^KeyError: '(\w+)'$")
_IN_OS = re.compile(r"^<frozen os>$|/os\.py$")


def is_traceback(text: str) -> bool:
    """Whether the output contains a traceback."""
    return _TRACEBACK in text


def last_line(text: str, folder: Path | None) -> str:
    """The last line of an output, '' if there is none. For a traceback: its error, after the file
    and line in ``folder`` that raised it."""
    text = text.strip()
    last = text.splitlines()[-1] if text else ""
    if not is_traceback(text):
        return last
    # Only the last traceback: those before it belong to earlier errors.
    text = text[text.rindex(_TRACEBACK) :]
    last = _error_of(text) or last
    if (missing := _NO_VARIABLE.match(last)) and _IN_OS.search(_PLACE.findall(text)[-1][0]):
        last += f" (the environment variable {missing[1]} is not set)"
    if folder is None:
        return last
    root = folder.resolve()
    places = [
        (Path(name).resolve(), number)
        for name, number in _PLACE.findall(text)
        if not name.startswith("<")
    ]
    own = [
        (path.relative_to(root), number)
        for path, number in places
        if path.is_relative_to(root) and "site-packages" not in path.parts
    ]
    if last.startswith(_SYNTAX_ERRORS):
        own = [(path, number) for path, number in own if root / path == places[-1][0]] or places
    return "{}, line {}: {}".format(*own[-1], last) if own else last


def _error_of(traceback: str) -> str:
    """The error at the end of a traceback. Its message may have several lines; lines that the
    program printed afterwards follow an empty line, or are not indented."""
    lines = iter(traceback.splitlines()[1:])
    error = next((line for line in lines if line.strip() and not line.startswith(" ")), "")
    more = itertools.takewhile(lambda line: line.startswith(("\t", " ")), lines)
    return " ".join([error, *map(str.strip, more)]).strip()
