"""What a program that failed printed, in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

#: Errors whose place is the last one, in whichever file.
_OF_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)


def last_line(text: str, folder: Path | None) -> str:
    """The last line of an output, '' if there is none. In front of the error of a traceback is the
    place in ``folder`` where it was raised."""
    text = text.strip()
    last = text.splitlines()[-1] if text else ""
    if "Traceback (most recent call last)" not in text or folder is None:
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
    if last.startswith(_OF_SYNTAX):
        own = [(path, number) for path, number in own if root / path == places[-1][0]] or places
    return "{}, line {}: {}".format(*own[-1], last) if own else last
