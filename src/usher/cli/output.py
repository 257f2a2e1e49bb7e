"""The output of ``usher demo`` and ``usher dev``: lines of at most 80 columns, the same on a
terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from usher.cli.demo.setup import Step
from usher.contract.terminal import printable, wrap


def say(console: Console, text: str, title: str = "") -> None:
    """Prints ``text``, wrapped. title: bold words in front of it."""
    lines = Text(wrap(f"{title}  {text}" if title else text, indent=0))
    lines.stylize("bold", start=0, end=len(title))
    console.print(lines, soft_wrap=True)


def show_step(step: Step, console: Console, width: int = 25) -> None:
    """Prints one step: mark, name, duration, detail. width: columns of the name."""
    mark, word = ("[green]✓[/green]", "ok    ") if step.ok else ("[red]✗[/red]", "failed")
    line = f"  {mark} {word} {step.id:<{width}} {step.seconds:5.1f} s  "
    console.print(line, end="")
    # The columns of ``line``, without the marks for colours.
    indent = len("  ✓ failed ") + width + len("   0.1 s  ")
    console.print(wrap(step.detail, indent=indent), markup=False, soft_wrap=True)


def show_rows(rows: Iterable[tuple[str, str]], console: Console) -> None:
    """Prints names and values. Each value is on one line, so that it can be copied."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    console.print()
    for name, value in rows:
        line = Text.assemble("  ", (name.ljust(width), "bold"), "  ", printable(value))
        console.print(line, soft_wrap=True)


def relative_to_here(folder: Path) -> Path:
    """The path relative to the current folder if ``folder`` is inside it; else ``folder``."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
