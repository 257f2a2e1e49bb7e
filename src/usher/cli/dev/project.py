"""The integrator's project: its ``manage.py`` and what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from usher.cli.demo.errors import DemoError

_MARK = "usher-dev: "


@dataclass
class Project:
    """folder: holds ``manage.py``; environment: what its processes get beside their own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, folder: Path) -> Project:
        """Raises DemoError where no Django project is."""
        if not (folder / "manage.py").is_file():
            raise DemoError(
                f"{folder} has no manage.py. Run `usher dev` in the folder of your Django "
                "project, or name it: usher dev FOLDER."
            )
        return cls(folder.resolve())

    @property
    def name(self) -> str:
        return self.folder.name

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "manage.py", *arguments]

    def ask(self, step: str, *arguments: Any) -> dict[str, Any]:
        """One step of ``inside``. Raises DemoError when the project can't be run."""
        script = resources.files("usher.cli.dev").joinpath("inside.py").read_text()
        done = subprocess.run(
            self.command("shell"),
            cwd=self.folder,
            env={**os.environ, **self.environment, "PYTHONWARNINGS": "ignore"},
            input=f"STEP = {[step, *arguments]!r}\n{script}",
            text=True,
            capture_output=True,
            check=False,
        )
        for line in reversed(done.stdout.splitlines()):
            if line.startswith(_MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(_MARK))
                return found
        raise DemoError(f"Your project could not be run ({step}): {_last_words(done.stderr)}")


def _last_words(text: str) -> str:
    """The last line of a traceback; otherwise the end of the output."""
    said = text.strip()
    if "Traceback (most recent call last)" in said:
        return said.splitlines()[-1]
    return said[-2000:] or "it ended without a word"
