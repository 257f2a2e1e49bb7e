"""Runs other programs: input through standard input only, no secrets in error messages."""

import os
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usher.connect.errors import ToolFailed, ToolMissing
from usher.contract import stop_with_parent
from usher.contract.envfile import write_private
from usher.contract.secret_values import Secrets
from usher.contract.terminal import COLOURS

#: The most lines of a program's output in an error message.
_MAX_LINES = 12
#: The first line of a traceback.
_CRASH = "Traceback (most recent call last)"
#: Seconds that a program may take: containers that start for the first time build assets and a
#: database.
USUAL_TIMEOUT = 600.0


@dataclass(frozen=True)
class Output:
    """The output of a program."""

    stdout: str
    stderr: str = ""

    @property
    def text(self) -> str:
        return f"{self.stdout}\n{self.stderr}"


@dataclass(frozen=True)
class Runner:
    """Runs programs. cwd: their folder; env: added to ``os.environ``; secrets: hidden in errors."""

    secrets: Secrets
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: str = "",
        timeout: float = USUAL_TIMEOUT,
    ) -> str:
        """Runs a program and returns its standard output. Raises ToolFailed, ToolMissing.

        timeout: seconds.
        """
        return self.capture(argv, stdin=stdin, timeout=timeout).stdout

    def capture(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: str = "",
        timeout: float = USUAL_TIMEOUT,
    ) -> Output:
        """Runs a program and returns both of its outputs. Raises ToolFailed, ToolMissing."""
        command = [str(part) for part in argv]
        try:
            finished = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                check=False,
            )
        except OSError as error:  # among others: too long an environment, or not a program
            raise ToolMissing(f"{command[0]} can't be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(
                f"{self.as_typed(command)} did not end within {timeout:.0f} seconds"
            ) from error
        if finished.returncode != 0:
            output_end = (
                last_lines(finished.stderr) or last_lines(finished.stdout) or "(it printed nothing)"
            )
            raise ToolFailed(
                f"{self.as_typed(command)} ended with {finished.returncode}:\n"
                f"{self.secrets.hide(output_end)}",
                exit_code=finished.returncode,
                stdout=finished.stdout,
            )
        return Output(finished.stdout, finished.stderr)

    def watch(self, argv: Sequence[str | Path]) -> None:
        """Runs a slow program without a time limit and copies its output to standard error.

        Raises ToolFailed, ToolMissing.
        """
        command = [str(part) for part in argv]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self.cwd,
                env={**os.environ, **self.env},
            )
        except OSError as error:
            raise ToolMissing(f"{command[0]} can't be run: {error.strerror}") from error
        newest_lines: deque[str] = deque(maxlen=_MAX_LINES)
        try:
            for line in process.stdout or ():
                newest_lines.append(self.secrets.hide(line.rstrip()))
                sys.stderr.write(f"          {newest_lines[-1]}\n")
            code = process.wait()
        finally:
            process.kill()  # after an interrupt; an ended process is not affected
        if code:
            output_end = last_lines("\n".join(newest_lines))
            raise ToolFailed(
                f"{self.as_typed(command)} ended with {code}:\n{output_end}", exit_code=code
            )

    def start(self, argv: Sequence[str | Path], log: Path) -> "subprocess.Popen[bytes]":
        """Starts a program and doesn't wait for it.

        ``usher.contract.stop_with_parent`` stops the program, also when this process ends. log: a
        file for the program's output, readable by the file's owner only.
        """
        write_private(log, b"")
        return stop_with_parent.start([str(part) for part in argv], self.cwd, self.env, log)

    def as_typed(self, argv: Sequence[str | Path]) -> str:
        """Returns the command as the operator would type it in a shell, with secrets hidden."""
        return self.secrets.hide(shlex.join(str(part) for part in argv))


def last_lines(text: str) -> str:
    """Returns the last lines of a program's output, without colours and traceback frames.

    If the program crashed with a traceback, leaves out everything before the traceback.
    """
    lines = [line.rstrip() for line in COLOURS.sub("", text).splitlines() if line.strip()]
    begin = next((index for index, line in enumerate(lines) if line.startswith(_CRASH)), 0)
    lines = lines[begin:]
    begin_of_frame_lines = ("  File ", "    ")
    lines = [line for line in lines if not line.startswith(begin_of_frame_lines)] or lines
    return "\n".join(f"  {line}" for line in lines[-_MAX_LINES:])
