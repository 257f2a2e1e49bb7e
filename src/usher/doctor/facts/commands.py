"""Runs other programs to collect facts. Their output is parsed and never shown as a whole."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usher.contract.envfile import EnvFile, EnvFileError
from usher.doctor.facts.memo import NotKnownError

#: Seconds for one command, since a busy machine starts programs slowly; Tutor's imports alone take
#: seconds.
_SECONDS = 120


class CommandError(NotKnownError):
    """A program could not be run or failed; the message has the end of its output."""


@dataclass(frozen=True)
class Command:
    """The words that run a program: ``("docker", "compose", "exec", "-T", "web", "./manage.py")``.

    environment: variables, shown with the command. env_file: a ``.env`` whose settings the program
    gets.
    """

    words: tuple[str, ...]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_file: Path | None = None

    def shown(self, arguments: str) -> str:
        """The command with these arguments, as one types it in a shell."""
        names = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        line = " ".join([*names, *map(shlex.quote, self.words), arguments])
        return f"(cd {shlex.quote(str(self.folder))} && {line})" if self.folder else line

    def output(self, *more: str, stdin: str = "", seconds: float = _SECONDS) -> str:
        """Returns what the command prints. Raises CommandError."""
        words: Sequence[str] = [*self.words, *more]
        shown = " ".join(words)
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                env=self._whole_environment(),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError as error:
            raise CommandError(f"`{shown}` can't be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"`{shown}` took more than {seconds:.0f} seconds") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise CommandError(f"`{shown}` failed ({done.returncode}): {said[0][:300]}")
        return done.stdout

    def run(self, *more: str) -> int:
        """Runs the command in this terminal and returns its exit code. Raises CommandError."""
        words = [*self.words, *more]
        try:
            return subprocess.run(
                words, cwd=self.folder, env=self._whole_environment(), check=False
            ).returncode
        except OSError as error:
            raise CommandError(f"`{' '.join(words)}` can't be run: {error.strerror}") from error

    def _whole_environment(self) -> dict[str, str]:
        return {**os.environ, **self._written(), **self.environment}

    def _written(self) -> dict[str, str]:
        try:
            return EnvFile.read(self.env_file).over(os.environ) if self.env_file else {}
        except (EnvFileError, OSError):
            return {}  # the check ENV-1 reports it

    def json(self, *more: str, stdin: str = "") -> Any:
        """Returns the JSON with which the command's output ends. Raises CommandError."""
        printed = self.output(*more, stdin=stdin)
        start = printed.find("{")
        try:
            return json.loads(printed[start:]) if start >= 0 else _refuse(printed)
        except ValueError as error:
            raise CommandError(f"`{' '.join((*self.words, *more))}` printed no JSON") from error


def _refuse(printed: str) -> Any:
    raise ValueError(printed[:100])
