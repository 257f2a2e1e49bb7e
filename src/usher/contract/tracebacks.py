"""Summarises the output of a failed program in one sentence."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

#: For these errors the last place in the traceback is reported, even outside of the folder.
_SYNTAX_ERRORS = ("SyntaxError", "IndentationError", "TabError")
_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"
#: Python writes this line between the traceback of an error and that of the error it led to.
_DIRECT_CAUSE = "The above exception was the direct cause of the following exception:"
#: The end of Django's error for WSGI_APPLICATION, which does not say why the import failed.
_WITHOUT_CAUSE = "could not be loaded; Error importing module."
#: The error for a variable that ``os.environ`` lacks; its traceback ends in the module ``os``.
_NO_VARIABLE = re.compile(r"^KeyError: '(\w+)'$")
_IN_OS = re.compile(r"^<frozen os>$|/os\.py$")


def is_traceback(text: str) -> bool:
    """Whether the output contains a traceback, and the error of the last one. The program may still
    be printing it, or may have been killed meanwhile."""
    _, mark, traceback = text.rpartition(_TRACEBACK)
    return bool(mark and _error_of(mark + traceback))


def summary_of_output(output: str, folder: Path | None) -> str:
    """For output with a traceback: the error, after the file and line in ``folder`` that raised it.
    For other output: its last line, '' if there is none."""
    output = output.strip()
    last_line = output.splitlines()[-1] if output else ""
    if not is_traceback(output):
        return last_line
    # Only the last traceback counts: those in front of it belong to earlier errors.
    start = output.rindex(_TRACEBACK)
    earlier_output, traceback = output[:start].rstrip(), output[start:]
    error = _error_of(traceback) or last_line
    if error.endswith(_WITHOUT_CAUSE) and earlier_output.endswith(_DIRECT_CAUSE):
        return summary_of_output(earlier_output.removesuffix(_DIRECT_CAUSE), folder)
    if missing_variable := _NO_VARIABLE.match(error):
        last_file, _ = _PLACE.findall(traceback)[-1]
        if _IN_OS.search(last_file):
            error += f" (the environment variable {missing_variable[1]} is not set)"
    place = _place_of(traceback, error, folder) if folder is not None else None
    if place is None:
        return error
    file, line = place
    return f"{file}, line {line}: {error}"


def _place_of(traceback: str, error: str, folder: Path) -> tuple[Path, str] | None:
    """The last file and line of the traceback that are in ``folder`` and not in an installed
    package; None if there are none. For a syntax error: the last file and line, wherever they are.
    A file in ``folder`` is given relative to it."""
    root = folder.resolve()

    def is_own(file: Path) -> bool:
        return file.is_relative_to(root) and "site-packages" not in file.parts

    places = [
        (Path(name).resolve(), line)
        for name, line in _PLACE.findall(traceback)
        if not name.startswith("<")
    ]
    if not error.startswith(_SYNTAX_ERRORS):
        places = [(file, line) for file, line in places if is_own(file)]
    if not places:
        return None
    file, line = places[-1]
    return file.relative_to(root) if is_own(file) else file, line


def _error_of(traceback: str) -> str:
    """The error at the end of a traceback, as one line; '' if there is none. Of a message of
    several lines, only indented lines follow the first: others may be the program's output."""
    lines = iter(traceback.splitlines()[1:])
    error = next((line for line in lines if line.strip() and not line.startswith(" ")), "")
    further_lines = itertools.takewhile(lambda line: line.startswith(("\t", " ")), lines)
    return " ".join([error, *map(str.strip, further_lines)]).strip()
