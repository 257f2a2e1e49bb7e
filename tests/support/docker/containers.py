"""Runs a container's command as a process of this machine."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.support.docker.engine import ContainerEngine, Refused

#: The folder at which Tutor mounts its configuration. The image sets LMS_CFG to a file in it.
CONFIG = "/openedx/config"


def run_in_lms(
    engine: ContainerEngine, argv: Sequence[str], config: Path, output: IO[str] | None = None
) -> int:
    """Runs ``argv`` as in the LMS's container, with ``config`` mounted at /openedx/config. Returns
    the exit code. Raises Refused if ``config`` or the LMS folder lacks its files.

    output: the file for standard output and errors; by default they are the caller's.
    """
    if not (config / "lms.env.yml").is_file():
        raise Refused(f"there is no lms.env.yml in {config}, which is mounted at {CONFIG}")
    folder = engine.lms or _create_lms(engine.home / "lms")
    if not (folder / "manage.py").is_file():
        raise Refused(f"there is no manage.py in the LMS folder {folder}")
    words = [word.replace(CONFIG, str(config)) for word in argv]
    environment = {"LMS_CFG": str(config / "lms.env.yml"), "SERVICE_VARIANT": "lms"}
    return run(words, folder, environment, output)


def run(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: IO[str] | None = None,
) -> int:
    """Runs ``argv`` in ``folder`` with ``environment``. Of the caller's variables only HOME, LANG,
    TMPDIR and PATH are added, as in a container; the folder of the tests' Python precedes PATH.
    Returns the exit code."""
    python = str(Path(sys.executable).parent)
    inherited = {
        name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ
    }
    path = os.pathsep.join((python, os.environ.get("PATH", os.defpath)))
    variables = {**inherited, "PATH": path, **environment}
    return subprocess.run(argv, cwd=folder, env=variables, stdout=output, stderr=output).returncode


def _create_lms(folder: Path) -> Path:
    """Creates an embedded LMS in ``folder`` unless there is one. Returns ``folder``."""
    if not (folder / "manage.py").exists():
        command = [sys.executable, "-m", "usher.embedded", "init", str(folder)]
        subprocess.run([*command, "--root-url", "http://local.openedx.io"], check=True)
    return folder
