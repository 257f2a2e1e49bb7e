"""Management commands of an LMS, run one after the other in a process that stays: starting Django
anew for each would take most of the tests' time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LOOP = """
import contextlib, io, json, sys
import django
django.setup()
from django.core.management import CommandError, call_command
from django.db import close_old_connections
answers = sys.stdout
for line in sys.stdin:
    asked = json.loads(line)
    out, err, status = io.StringIO(), io.StringIO(), 0
    sys.stdin = io.StringIO(asked["text"])
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            call_command(*asked["arguments"])
    except CommandError as error:
        status = error.returncode
        err.write(f"CommandError: {error}")
    except SystemExit as stop:
        status = stop.code or 0
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Commands:
    """``run`` answers what the command printed and its exit code, as a shell would see them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **environment,
                "USHER_LMS_HOME": str(folder),
                "DJANGO_SETTINGS_MODULE": "usher.embedded.settings",
            },
        )

    def run(self, *arguments: str, text: str = "") -> Done:
        assert self._process.stdin and self._process.stdout
        print(
            json.dumps({"arguments": arguments, "text": text}),
            file=self._process.stdin,
            flush=True,
        )
        return Done(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin
            self._process.stdin.close()
        self._process.wait(10)
