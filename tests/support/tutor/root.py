"""A Tutor root, its commands and its rendered files."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.tutor.environments import tutor_executable
from usher.contract.provisioning import Description

#: Environment variables with which a released Tutor behaves as its main branch.
AS_NIGHTLY = {"PYTHONPATH": str(Path(__file__).parent / "main_branch")}


@dataclass
class TutorRoot:
    """A Tutor root in the folder ``path``. release: Tutor's release. nightly: whether Tutor behaves
    as its main branch. environment: variables for every command; if PATH is one of them, it is put
    in front of the real PATH."""

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
        """Creates a root as an operator does: writes ``config`` to config.yml, and enables
        ``plugins`` in this order, which renders the files."""
        root = cls(release, path, nightly=nightly)
        path.mkdir(parents=True, exist_ok=True)
        root.configure(**(config or {}))
        root.run("plugins", "enable", *plugins)
        return root

    def run(
        self, *arguments: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``tutor ARGUMENTS`` in this root. Raises AssertionError with all output if the
        command fails, unless ``check`` is false."""
        result = subprocess.run(
            [tutor_executable(self.release), "--root", self.path, *arguments],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
        )
        if check and result.returncode:
            raise AssertionError(f"tutor {arguments}\n{result.stdout}\n{result.stderr}")
        return result

    @property
    def python(self) -> Path:
        return tutor_executable(self.release).with_name("python")

    def configure(self, **values: Any) -> None:
        """Sets values in config.yml without rendering the files."""
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
        """The path of the rendered lms.env.yml."""
        return self.env / "apps/openedx/config/lms.env.yml"

    def description(self) -> Description:
        """The rendered description that Usher's job provisions."""
        return Description.from_json((self.lms_config.parent / "usher.json").read_text())

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TUTOR")
        }
        plugins = {"TUTOR_PLUGINS_ROOT": str(self.path / "plugins")}
        nightly = AS_NIGHTLY if self.nightly else {}
        variables = {**inherited, **plugins, **nightly, **self.environment}
        if "PATH" in self.environment:
            variables["PATH"] = f"{self.environment['PATH']}{os.pathsep}{inherited.get('PATH', '')}"
        return variables
