"""A ``manage.py shell`` that stays open: scripts run in a real process that is warm already."""

import json as _json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from usher.doctor.facts.commands import Command, CommandError

_LOOP = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    out, error = io.StringIO(), ""
    stdout, sys.stdout = sys.stdout, out
    try:
        exec(json.loads(line), {"__name__": "script"})
    except BaseException:
        error = traceback.format_exc()
    finally:
        sys.stdout = stdout
    from django.db import connections
    if sites := sys.modules.get("django.contrib.sites.models"):
        sites.SITE_CACHE.clear()
    connections.close_all()
    print("\\x1e" + json.dumps([out.getvalue(), error]), flush=True)
"""


class WarmShell:
    """Understands what doctor asks of a ``manage.py``: its shell, and any command."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.words = (sys.executable, "manage.py")
        self.folder, self.environment = folder, environment
        self._process: subprocess.Popen[str] | None = None
        self._log = Path(tempfile.mkstemp(suffix=".log")[1])

    json = Command.json

    def output(self, *more: str, stdin: str = "", seconds: float = 60) -> str:
        return self.run(
            stdin
            if more == ("shell",)
            else f"from django.core.management import call_command\ncall_command(*{list(more)!r})"
        )

    def run(self, script: str) -> str:
        """What the script prints. Raises CommandError with its traceback."""
        process = self._opened()
        stdin, stdout = _pipe(process.stdin), _pipe(process.stdout)
        stdin.write(_json.dumps(script) + "\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("\x1e"):
                printed, error = _json.loads(line[1:])
                if error:
                    raise CommandError(error)
                return str(printed)
        raise CommandError(f"the shell ended: {self._log.read_text()[-2000:]}")

    def _opened(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [*self.words, "shell", "--no-imports", "-c", _LOOP],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log.open("w"),
                text=True,
            )
        return self._process

    def close(self) -> None:
        """The next script starts a new process, with the settings of then."""
        if self._process is not None:
            _pipe(self._process.stdin).close()
            self._process.wait(10)
            self._process = None


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
