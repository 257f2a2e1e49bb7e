"""Notices changes of the Python files and the ``.env`` of a project."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

#: Folders without code of the project. Hidden folders and virtual environments are left out, too.
_SKIPPED = {"node_modules", "__pycache__"}
#: Changes are complete if no file changes for this many seconds: an editor may still be writing a
#: file, and Git changes many files one after another.
_QUIET_SECONDS = 0.2
#: How often the files are read again to find out whether the changes are complete.
_MOST_READS = 25

#: The file of settings that ``defaults.apply`` reads.
ENV_FILE = ".env"


class ProjectFiles:
    """Remembers the state of the project's Python files and ``.env`` at its creation, and at each
    call of ``find_changed_names``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last_state = self._state()

    def find_changed_names(self) -> set[str]:
        """The names of files that were changed, added or deleted since the last call. If there are
        any, the call waits until the changes are complete."""
        state = self._state()
        if state == self._last_state:
            return set()
        for _ in range(_MOST_READS):
            time.sleep(_QUIET_SECONDS)
            earlier_state, state = state, self._state()
            if state == earlier_state:
                break
        changes = state.items() ^ self._last_state.items()
        self._last_state = state
        return {Path(path).name for path, _ in changes}

    def _state(self) -> dict[str, tuple[int, int]]:
        """Path → time of the last change, and size."""
        state = {}
        for folder, folders, names in os.walk(self._folder):
            if "pyvenv.cfg" in names:
                folders.clear()
                continue
            folders[:] = [
                name for name in folders if name not in _SKIPPED and not name.startswith(".")
            ]
            for name in names:
                if not (name.endswith(".py") or name == ENV_FILE):
                    continue
                path = Path(folder, name)
                with suppress(OSError):  # deleted in the meantime, or a link to nothing
                    status = path.stat()
                    state[str(path)] = (status.st_mtime_ns, status.st_size)
        return state
