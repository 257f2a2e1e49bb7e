"""Runs management commands and scripts in the integrator's project, through its ``manage.py``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from usher.cli.demo.errors import DemoError, NotStarted
from usher.contract import stop_with_parent
from usher.contract.folders import advice_about_parent
from usher.contract.tracebacks import summary_of_output

_MARK = "usher-dev: "
_ADVICE_FOR_CELERY = (
    "\nInstall Celery: pip install 'openedx-usher[celery]'. Then run `usher dev` again."
)


@dataclass
class Project:
    """A Django project. folder: contains ``manage.py``. environment: variables for its processes,
    in addition to ``os.environ``."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, folder: Path) -> Project:
        """The project in ``folder``. Raises NotStarted if there is no ``manage.py``."""
        if not (folder / "manage.py").is_file():
            advice = advice_about_parent(folder) or (
                "Run `usher dev` in the folder of your Django project, or name it: "
                "`usher dev FOLDER`."
            )
            raise NotStarted(f"{folder.absolute()} has no manage.py. {advice}")
        return cls(folder.resolve())

    @property
    def name(self) -> str:
        return self.folder.name

    def command(self, *arguments: str) -> list[str]:
        """The command line of one management command."""
        return [sys.executable, "manage.py", *arguments]

    def ask(self, step: str, *arguments: Any) -> dict[str, Any]:
        """Runs one step of ``inside_project`` and returns its result. Raises DemoError if the
        project can't be run."""
        script = resources.files("usher.cli.dev").joinpath("inside_project.py").read_text()
        finished = stop_with_parent.run(
            self.command("shell"),
            self.folder,
            {**self.environment, "PYTHONWARNINGS": "ignore"},
            f"STEP = {[step, *arguments]!r}\n{script}",
        )
        for line in reversed(finished.stdout.splitlines()):
            if line.startswith(_MARK):
                result: dict[str, Any] = json.loads(line.removeprefix(_MARK))
                return result
        error_text = _error_in_output(finished.stderr, self.folder)
        advice = _ADVICE_FOR_CELERY if "No module named 'celery'" in error_text else ""
        raise DemoError(f"The project in {self.folder} can't be run: {error_text}{advice}")


def _error_in_output(text: str, folder: Path) -> str:
    """The error of a traceback and its place in ``folder``; otherwise the end of the output."""
    output = text.strip()
    if "Traceback (most recent call last)" in output:
        return summary_of_output(output, folder)
    return output[-2000:] or "it printed no error"
