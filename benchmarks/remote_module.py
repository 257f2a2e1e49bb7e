"""Calls functions of a module in another process, which has another Django project, and measures
their time. ``python -m benchmarks.remote_module MODULE`` is that process: it reads a JSON line for
each call and writes one for each answer."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.processes import ROOT, environment_with


class RemoteModule:
    """Starts a process with the Django project that ``environment`` names, and calls functions of
    ``module`` in it."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.remote_module", module],
            cwd=ROOT,
            env=environment_with({"LOG_LEVEL": "ERROR", **environment}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> RemoteModule:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(30)

    def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Calls the function in the other process. Returns a dict: ``seconds`` that the call took,
        ``cpu`` seconds of processor time, and ``answer``, the function's result. Raises
        RuntimeError if the process ended, as after an error of the function."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("not started")
        stdin.write(json.dumps([function, arguments]) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended during {function}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    from benchmarks.chaos import clock

    clock.inject()
    import django

    django.setup()
    module = importlib.import_module(sys.argv[1])
    # What the functions print must not get among the answers.
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        name, arguments = json.loads(line)
        gc.collect()  # so that garbage of earlier calls is not collected during this one
        function = getattr(module, name)
        started_at, cpu_before = time.perf_counter(), time.process_time()
        answer = function(**arguments)
        cost = {
            "seconds": time.perf_counter() - started_at,
            "cpu": time.process_time() - cpu_before,
            "answer": answer,
        }
        answers.write(json.dumps(cost) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
