"""One Tutor root: commands run in it, and what they left there."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.tutor.environments import tutor_executable
from usher.contract.provisioning import Description

_AS_NIGHTLY = """
from tutor import __about__ as about
about.__version_suffix__ = "main"
about.__version__ += "-main"
about.__app__ += "-main"
from tutor.commands.cli import main
main()
"""


@dataclass
class TutorRoot:
    """``environment`` is added to every command's own; its PATH comes before the real one."""

    release: int
    path: Path
    nightly: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        release: int,
        path: Path,
        *,
        nightly: bool = False,
        plugins: tuple[str, ...] = ("mfe", "usher"),
        config: Mapping[str, Any] | None = None,
    ) -> "TutorRoot":
        """A root as an operator makes it: config.yml, plugins in that order, environment."""
        root = cls(release, path, nightly)
        path.mkdir(parents=True, exist_ok=True)
        root.configure(**(config or {}))
        root.run("plugins", "enable", *plugins)
        return root

    def run(
        self, *arguments: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """``tutor ARGUMENTS`` in this root. Raises AssertionError with all output on failure."""
        done = subprocess.run(
            [*self._command, "--root", self.path, *arguments],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(f"tutor {arguments}\n{done.stdout}\n{done.stderr}")
        return done

    @property
    def python(self) -> Path:
        return tutor_executable(self.release).with_name("python")

    @property
    def _command(self) -> list[str | Path]:
        # Nightly is Tutor's main branch; all that it tells plugins and templates is its suffix.
        return (
            [self.python, "-c", _AS_NIGHTLY] if self.nightly else [tutor_executable(self.release)]
        )

    def configure(self, **values: Any) -> None:
        """Set values in config.yml, as an editor would: nothing is rendered yet."""
        config = {**self.config(), **values}
        (self.path / "config.yml").write_text(yaml.safe_dump(config))

    def config(self) -> dict[str, Any]:
        file = self.path / "config.yml"
        return dict(yaml.safe_load(file.read_text()) or {}) if file.exists() else {}

    @property
    def env(self) -> Path:
        return self.path / "env"

    @property
    def lms_config(self) -> Path:
        return self.env / "apps/openedx/config/lms.env.yml"

    def description(self) -> Description:
        return Description.from_json((self.lms_config.parent / "usher.json").read_text())

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("TUTOR")}
        plugins = {"TUTOR_PLUGINS_ROOT": str(self.path / "plugins")}
        both = {**own, **plugins, **self.environment}
        if "PATH" in self.environment:
            both["PATH"] = f"{self.environment['PATH']}{os.pathsep}{own.get('PATH', '')}"
        return both
