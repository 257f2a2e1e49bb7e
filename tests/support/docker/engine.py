"""The stand-in for Docker: a folder with ``docker`` and ``kubectl``, their state and the recorded
calls."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[3]
#: Environment variables of the stand-ins: their folder, and the LMS folder in which jobs run.
HOME = "USHER_STANDIN_HOME"
LMS = "USHER_STANDIN_LMS"
_COMMAND = """#!/bin/sh
exec {python} -B -c 'import sys
sys.path.insert(0, "{project}")
from tests.support.docker.{module} import main
sys.exit(main(sys.argv[1:]))' "$@"
"""


class Refused(Exception):
    """The stand-in does not accept this call."""


@dataclass(frozen=True)
class ContainerEngine:
    """A stand-in for ``docker`` and ``kubectl``. home: the folder of the commands, the recorded
    calls and the state. lms: a folder with a ``manage.py``, by default an embedded LMS that is
    created in ``home`` when first needed."""

    home: Path
    lms: Path | None = None

    @classmethod
    def make(cls, home: Path, lms: Path | None = None) -> "ContainerEngine":
        """Creates the folder with the commands ``docker`` and ``kubectl``."""
        engine = cls(home, lms)
        engine.bin.mkdir(parents=True, exist_ok=True)
        for command, module in (("docker", "docker_command"), ("kubectl", "kubectl_command")):
            text = _COMMAND.format(python=sys.executable, project=PROJECT, module=module)
            (engine.bin / command).write_text(text)
            (engine.bin / command).chmod(0o755)
        return engine

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ContainerEngine":
        """The engine of a running stand-in. environment: the stand-in's environment variables."""
        lms = environment.get(LMS)
        return cls(Path(environment[HOME]), Path(lms) if lms else None)

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a command finds the stand-ins. PATH is only the
        stand-ins' folder; the caller puts it in front of the real PATH."""
        lms = {LMS: str(self.lms)} if self.lms else {}
        return {"PATH": str(self.bin), HOME: str(self.home), **lms}

    def calls(self) -> list[list[str]]:
        """All calls so far, each as the words of its command line."""
        file = self.home / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def record_call(self, words: list[str]) -> None:
        line = json.dumps(words) + "\n"
        # One write at the end of the file, because several commands may run at the same time.
        descriptor = os.open(
            self.home / "calls.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        with os.fdopen(descriptor, "w") as file:
            file.write(line)
