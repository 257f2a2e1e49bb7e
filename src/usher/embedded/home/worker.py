"""The process that serves requests. It ends when the process that started it ends, even if the
starting process was killed."""

import os
import threading
import time

from usher.embedded.conf.files import SERVER_VARIABLE

_POLL_SECONDS = 0.5


def _end_with_parent(parent: int) -> None:
    """End this process when the parent ends. A killed parent can't stop this process, which would
    keep the port occupied."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)  # ``sys.exit`` would end only this thread


if SERVER_VARIABLE in os.environ:
    threading.Thread(
        target=_end_with_parent, args=(int(os.environ[SERVER_VARIABLE]),), daemon=True
    ).start()

from usher.embedded.wsgi import application  # noqa: E402 - the thread starts first

__all__ = ["application"]
