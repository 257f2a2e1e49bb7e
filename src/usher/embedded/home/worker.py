"""The process that answers. It ends with the process that started it, however that one ended."""

import os
import threading
import time

from usher.embedded.conf.files import SERVER_VARIABLE

_SECONDS = 0.5


def _end_with(parent: int) -> None:
    """A server killed outright can't tell its worker, which would go on holding the port."""
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)


if SERVER_VARIABLE in os.environ:
    threading.Thread(
        target=_end_with, args=(int(os.environ[SERVER_VARIABLE]),), daemon=True
    ).start()

from usher.embedded.wsgi import application  # noqa: E402 - the watch comes first

__all__ = ["application"]
