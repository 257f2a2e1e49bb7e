"""Runs other programs to collect facts. Their output is parsed and never shown as a whole."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usher.contract import exits
from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.secret_values import Secrets
from usher.contract.shell import with_env_file
from usher.contract.terminal import ARGUMENTS, MANAGE_AS_TYPED
from usher.contract.tracebacks import is_traceback, summary_of_output
from usher.doctor.facts.memo import NotKnownError

#: The most seconds for one command. A busy machine starts programs slowly, and Tutor's imports
#: alone take seconds.
_SECONDS = 120


#: The exit codes of ``manage.py``: success, an error, a wrong argument, an interruption. A program
#: that should run it, such as docker, has other codes.
_CODES_OF_MANAGE = (0, 1, 2, exits.INTERRUPTED)


class CommandError(NotKnownError):
    """A program could not be run or failed; the message has the end of its output."""


class CodeError(CommandError):
    """A program ended with a traceback. error: the error, with its place in the program's code."""

    def __init__(self, message: str, error: str) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True)
class Command:
    """The words that run a program: ``("docker", "compose", "exec", "-T", "web", "./manage.py")``.

    environment: variables, shown with the command. env_file: a ``.env`` whose settings the program
    gets; the shown command reads it, too.
    """

    words: tuple[str, ...]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_file: Path | None = None

    def as_typed(self, arguments: str) -> str:
        """The command with these arguments, to type in a shell."""
        words = [*self.words]
        if self.environment:
            words[:0] = ["env", *(f"{name}={value}" for name, value in self.environment.items())]
        line = f"{shlex.join(words)} {arguments}"
        return with_env_file(line, self.folder, self.env_file)

    def output(self, *arguments: str, stdin: str = "", seconds: float = _SECONDS) -> str:
        """Returns the command's output. Raises CommandError."""
        words: Sequence[str] = [*self.words, *arguments]
        command_text = " ".join(words)
        try:
            result = subprocess.run(
                words,
                cwd=self.folder,
                env=self._whole_environment(),
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except OSError as error:
            raise CommandError(f"`{command_text}` can't be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"`{command_text}` took more than {seconds:.0f} seconds") from error
        if result.returncode:
            error_line = self._summary(result.stderr or result.stdout)[:300] or "no message"
            message = f"`{command_text}` failed ({result.returncode}): {error_line}"
            if is_traceback(result.stderr):
                raise CodeError(message, error_line)
            raise CommandError(message)
        return result.stdout

    def run(self, *arguments: str) -> int:
        """Runs the command in this terminal and returns its exit code. Raises CommandError, or
        CodeError instead of showing a traceback."""
        words = [*self.words, *arguments]
        command_text = " ".join(words)
        try:
            result = subprocess.run(
                words,
                cwd=self.folder,
                env=self._whole_environment() | self._name_in_output(),
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise CommandError(f"`{command_text}` can't be run: {error.strerror}") from error
        if result.returncode and is_traceback(result.stderr):
            error_line = self._summary(result.stderr)
            message = f"`{command_text}` failed ({result.returncode}): {error_line}"
            raise CodeError(message, error_line)
        if result.returncode and f"Unknown command: '{arguments[0]}'" in result.stderr:
            raise CommandError(_unknown_command_message(arguments[0]))
        if result.returncode not in _CODES_OF_MANAGE:
            error_line = self._summary(result.stderr) or "no message"
            raise CommandError(f"`{command_text}` failed ({result.returncode}): {error_line}")
        sys.stderr.write(result.stderr)
        return result.returncode

    def _name_in_output(self) -> dict[str, str]:
        """Makes ``manage.py`` name itself in its output as a person in this folder types it."""
        if not self.environment and self.folder in (None, Path.cwd()):
            return {}  # it is typed as the output says
        return {MANAGE_AS_TYPED: self.as_typed(ARGUMENTS)}

    def _summary(self, output: str) -> str:
        """The error in the command's output, without secret values of its settings."""
        secrets = Secrets()
        secrets.add_settings(self._whole_environment())
        if self.folder and self.env_file is None:
            # docker compose gives these settings to the container.
            secrets.add_settings(_values_of(self.folder / ".env"))
        return secrets.hide(summary_of_output(output, self.folder))

    def _whole_environment(self) -> dict[str, str]:
        return {**os.environ, **self._env_file_values(), **self.environment}

    def _env_file_values(self) -> dict[str, str]:
        return _values_of(self.env_file, os.environ) if self.env_file else {}

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Returns the JSON object with which the command's output ends; the text before it must
        contain no ``{``. Raises CommandError."""
        printed = self.output(*arguments, stdin=stdin)
        _, brace, rest = printed.partition("{")
        try:
            return json.loads(brace + rest)
        except ValueError as error:
            raise CommandError(
                f"`{' '.join((*self.words, *arguments))}` printed no JSON"
            ) from error


def _unknown_command_message(name: str) -> str:
    return (
        f"manage.py of the application has no command {name!r}: the application "
        "is not built on Usher, or its settings module lacks Usher's apps. If its settings "
        "are in another module, set the environment variable DJANGO_SETTINGS_MODULE to "
        "it. In MITx Online and MIT xPro, reconcile says why nothing is done for a "
        "learner:\n"
        "$ usher reconcile --user LEARNER --dry-run"
    )


def _values_of(env_file: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings that the file adds to a process with this environment; {} if the file can't be
    read, which the check ENV-1 reports."""
    try:
        return EnvFile.read(env_file).values_for_process(environment or {})
    except (EnvFileError, OSError):
        return {}
