"""Starts and stops the LMS, and the processes of services, for the stand-ins in this folder.

Environment variables: STANDIN_STATE, the folder of logs and process files; USHER_STANDIN_LMS, the
folder of the LMS; STANDIN_LMS_PORT, the LMS's port. Like a real LMS, this LMS reads its settings
only when it starts.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: Seconds for a process to end its requests; then it is killed.
STOP_SECONDS = 120


def next_program(name):
    """The path of the next program of this name on PATH: the stand-in that runs jobs."""
    this_folder = Path(__file__).resolve().parent
    for folder in os.environ["PATH"].split(os.pathsep):
        program = Path(folder) / name
        if Path(folder).resolve() != this_folder and os.access(program, os.X_OK):
            return str(program)
    sys.exit(f"stand-in {name}: there is no other {name} on PATH to pass the call to")


def lms_is_served():
    """Whether the test wants the LMS to be served: it has given the LMS a port."""
    return "STANDIN_LMS_PORT" in os.environ


def serve_lms(settings):
    """Starts the LMS unless it is running. settings: the path of the lms.env.yml that it reads."""
    if is_alive(read_process("lms", _lms_process_folder())):
        return
    folder = os.environ["USHER_STANDIN_LMS"]
    command = [sys.executable, "-m", "usher.embedded", "serve", folder]
    command += ["--port", os.environ["STANDIN_LMS_PORT"]]
    start("lms", {**os.environ, "LMS_CFG": str(settings)}, command, _lms_process_folder())


def end_lms():
    end(read_process("lms", _lms_process_folder()))


def _lms_process_folder():
    """The folder of the LMS's log and process file; created if it is missing."""
    folder = Path(os.environ["STANDIN_STATE"]) / "lms"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start(name, env, command, folder):
    """Starts a process. In ``folder``, its output is appended to NAME.log, and NAME.json contains
    its pid and environment, for ``read_process``."""
    with (folder / f"{name}.log").open("ab") as out:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"pid": process.pid, "environment": env}))


def end(process):
    """Ends a process and waits for its end. process: as ``read_process`` returns it."""
    if not is_alive(process):
        return
    os.killpg(process["pid"], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_alive(process):
        if time.monotonic() > deadline:
            os.killpg(process["pid"], signal.SIGKILL)
        time.sleep(0.02)


def is_alive(process):
    """Whether a process runs. process: as ``read_process`` returns it. A process that has ended but
    is not reaped yet (state Z in Linux) does not run."""
    if process is None:
        return False
    try:
        # The process's state follows its name, which is in parentheses.
        after_name = Path(f"/proc/{process['pid']}/stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return after_name.split()[0] != "Z"


def read_process(name, folder):
    """Pid and environment of the process that ``start`` started last; None if there is no
    NAME.json."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None
