"""Draws the terminal of a real demo as docs/images/demo.svg, for the README.

python scripts/demo_picture.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

#: Columns of the terminal: the demo's lines have at most 80.
WIDTH = 82
OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.svg"


def main() -> int:
    result = subprocess.run(
        [sys.executable, "-m", "usher.cli.main", "demo", "--once"],
        capture_output=True,
        text=True,
        env={
            "FORCE_COLOR": "1",
            "COLUMNS": str(WIDTH),
            "TERM": "xterm-256color",
            **_inherited_variables(),
        },
    )
    if result.returncode != 0:
        print(result.stdout + result.stderr, file=sys.stderr)
        return 1
    console = Console(record=True, width=WIDTH, file=sys.stderr)
    console.print("$ make demo ARGS=--once\n", style="bold")
    console.print(Text.from_ansi(result.stdout), end="")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="Usher demo")
    # Without @font-face the picture uses the reader's fonts and loads no other file.
    OUTPUT.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
    return 0


def _inherited_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


if __name__ == "__main__":
    raise SystemExit(main())
