"""The process that serves requests. It ends when the process that started it ends, even if the
starting process was killed."""

import os
import threading
import time

from usher.embedded.conf.files import SERVER_VARIABLE

_SECONDS = 0.5


def _end_with(parent: int) -> None:
    """End this process when the parent ends: a killed parent can't stop its worker, which would
    keep the port."""
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)


if SERVER_VARIABLE in os.environ:
    threading.Thread(
        target=_end_with, args=(int(os.environ[SERVER_VARIABLE]),), daemon=True
    ).start()

from usher.embedded.wsgi import application  # noqa: E402 - the watch comes first

__all__ = ["application"]
