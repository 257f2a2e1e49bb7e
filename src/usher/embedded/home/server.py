"""Serves an LMS folder with one process and many threads, because a request may cause another
request to the LMS."""

import os
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from usher.embedded.conf.files import HOME_VARIABLE, SERVER_VARIABLE

THREADS = 16


def serve(folder: Path, host: str, port: int, threads: int = THREADS) -> None:
    """Serve until the process is terminated."""
    # For the worker, which Granian starts as another process.
    os.environ[HOME_VARIABLE] = str(folder.resolve())
    os.environ["DJANGO_SETTINGS_MODULE"] = "usher.embedded.settings"
    os.environ[SERVER_VARIABLE] = str(os.getpid())
    Granian(
        "usher.embedded.home.worker:application",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads,
        log_level=LogLevels.error,
        websockets=False,
    ).serve()
