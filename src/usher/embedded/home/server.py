"""Serving an LMS folder: one process, many threads, because an answer may need another request."""

import logging
import os
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from usher.embedded.conf.files import HOME_VARIABLE

THREADS = 16


def serve(folder: Path, host: str, port: int, threads: int = THREADS) -> None:
    """Serve until the process is told to end."""
    os.environ[HOME_VARIABLE] = str(folder.resolve())
    os.environ["DJANGO_SETTINGS_MODULE"] = "usher.embedded.settings"
    logging.getLogger("granian").setLevel(logging.WARNING)
    Granian(
        "usher.embedded.wsgi:application",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads,
        log_level=LogLevels.warning,
        websockets=False,
    ).serve()
