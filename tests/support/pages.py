"""The blocks of code in README, CONTRIBUTING and docs, and the commands in them."""

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


def read_blocks() -> Iterator[tuple[str, str, str]]:
    """Page, language and text of each block. Texts are dedented, since blocks may be in lists."""
    for page in PAGES:
        for language, text in _BLOCK.findall(page.read_text()):
            yield str(page.relative_to(ROOT)), language, textwrap.dedent(text)


def read_commands() -> list[tuple[str, str]]:
    """Each command with its page: the lines after ``$`` in blocks ``console``, and all lines except
    comments in blocks ``sh``."""
    commands_of_pages = []
    for page, language, text in read_blocks():
        for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
            if language == "console" and line.startswith("$ "):
                commands_of_pages.append((page, line[2:]))
            elif language == "sh" and line and not line.startswith("#"):
                commands_of_pages.append((page, line))
    return commands_of_pages
