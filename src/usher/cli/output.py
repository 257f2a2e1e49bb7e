"""The output of ``usher demo`` and ``usher dev``: lines of at most 80 columns, the same on a
terminal and in a pipe."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

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
    line = Text.from_markup(f"  {mark} {word} {step.id:<{width}} {step.seconds:5.1f} s  ")
    # One call, because another thread may print the running steps between two.
    console.print(line.append(wrap(step.detail, indent=line.cell_len)), soft_wrap=True)


class RunningSteps:
    """Names the steps that are running: in the last line of a terminal; in a pipe, with a line when
    a step begins. Threads may share it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Not ``is_terminal``, which FORCE_COLOR makes true in a pipe.
        self._is_on = console.file.isatty()
        self._status = console.status("")
        self._names: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._is_on:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def begin(self, name: str) -> None:
        with self._lock:
            self._names.append(name)
            self._show()
        if not self._is_on:
            self._console.print(f"  … begun  {name}", soft_wrap=True)

    def end(self, name: str) -> None:
        """Does nothing if ``begin`` was not called with this name."""
        with self._lock:
            self._names = [other for other in self._names if other != name]
            self._show()

    def _show(self) -> None:
        names = ", ".join(self._names)
        self._status.update(f"running: {names}" if names else "")


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
