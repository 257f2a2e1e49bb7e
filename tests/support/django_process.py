"""Runs scripts and commands of a Django project one after the other in the same process.

Starting Django takes more than a second, which is more than the rest of most tests.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Begins the line with an answer. A control character, which scripts do not print.
_ANSWER_MARK = "\x1e"
#: For each line of standard input, a JSON object, runs the script or command in it and prints its
#: exit code, output and errors.
_LOOP = f"""
import contextlib, io, json, sys, traceback
from django.core.management import CommandError, call_command
from django.db import connections

def run(request):
    if "script" in request:
        exec(request["script"], {{"__name__": "script"}})
    else:
        call_command(*request["arguments"])

for line in sys.stdin:
    request = json.loads(line)
    out, errors, code, stdin = io.StringIO(), io.StringIO(), 0, sys.stdin
    sys.stdin = io.StringIO(request["text"])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            run(request)
        except CommandError as error:
            code = error.returncode
            print(f"CommandError: {{error}}", file=sys.stderr)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            code = 1
            traceback.print_exc()
    sys.stdin = stdin
    # Like a new process, the next script must read what other processes have changed meanwhile.
    if sites := sys.modules.get("django.contrib.sites.models"):
        sites.SITE_CACHE.clear()
    connections.close_all()
    answer = [code, out.getvalue(), errors.getvalue()]
    print({_ANSWER_MARK!r} + json.dumps(answer), flush=True)
"""


class DjangoProcessError(AssertionError):
    """A script or command failed; the message has its output."""


@dataclass(frozen=True)
class CommandResult:
    """The exit code and output of a command, as in a shell."""

    returncode: int
    stdout: str
    stderr: str

    def checked(self) -> str:
        """The output. Raises DjangoProcessError if the command failed."""
        if self.returncode:
            raise DjangoProcessError(self.stderr or self.stdout)
        return self.stdout


class DjangoProcess:
    """A process of the project whose ``manage.py`` is in ``folder``, started when first needed.

    environment: variables to add to the tests' own.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        inherited = dict(os.environ)
        inherited.pop("DJANGO_SETTINGS_MODULE", None)  # that of the tests' own Django
        self.environment = {**inherited, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as this object

    def run(self, script: str) -> str:
        """Runs a script and returns its output. Raises DjangoProcessError if it fails."""
        return self._send(script=script, text="").checked()

    def command(self, *arguments: str, text: str = "") -> CommandResult:
        """Runs a management command and returns its result, with any exit code. text: its standard
        input."""
        return self._send(arguments=arguments, text=text)

    def close(self) -> None:
        """Ends the process. The next script starts a new one, which reads the settings again."""
        if self._process is not None:
            _opened_pipe(self._process.stdin).close()
            self._process.wait(60)
            _opened_pipe(self._process.stdout).close()
            self._process = None

    def _send(self, **request: object) -> CommandResult:
        """Sends the request to the process. Raises DjangoProcessError if the process ends before it
        has answered."""
        process = self._started_process()
        stdin = _opened_pipe(process.stdin)
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        for line in _opened_pipe(process.stdout):
            if line.startswith(_ANSWER_MARK):
                return CommandResult(*json.loads(line.removeprefix(_ANSWER_MARK)))
        self._log.seek(0)
        raise DjangoProcessError(f"the process ended: {self._log.read()[-2000:]}")

    def _started_process(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "shell", "--no-imports", "-c", _LOOP],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        return self._process


def _opened_pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
