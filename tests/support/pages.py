"""Reads the code blocks, and the commands in them, of README and docs."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: All pages except the reference, which is generated from the code.
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "reference" not in page.parts),
]
_BLOCK = re.compile(r"^ *```([\w-]*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def all_blocks() -> Iterator[tuple[str, str, str]]:
    """Page, language and text, without the indentation of blocks in lists."""
    for page in PAGES:
        for language, text in _BLOCK.findall(page.read_text()):
            yield str(page.relative_to(ROOT)), language, textwrap.dedent(text)


def commands() -> list[tuple[str, str]]:
    """Page and command: lines after a ``$``, and all lines of shell scripts."""
    found = []
    for page, language, text in all_blocks():
        for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
            if language == "console" and line.startswith("$ "):
                found.append((page, line[2:]))
            elif language == "sh" and line and not line.startswith("#"):
                found.append((page, line))
    return found
