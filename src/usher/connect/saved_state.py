"""The state before Usher, saved so that ``disconnect`` can restore it.

The state is saved in the operator's state folder, not in the checkout: a copy with secrets in a
checkout could be committed. Files have mode 0600, folders 0700.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from usher.contract.connections import ConnectionsError, expand_home
from usher.contract.envfile import EnvFile, remove_private, write_private
from usher.contract.provisioning import Description

#: Files of one application: the earlier ``.env``; a mark that there was none; the earlier OAuth2
#: record of the LMS.
_ENV = "env.before"
_NO_ENV = "env.absent"
_RECORD = "record.before.json"
#: The file that ``save_application`` writes. This name and the key below never change, because the
#: files of existing connections have them.
_APPLICATION = "subject.json"
#: The key of the options given to ``usher connect``.
OPTIONS = "wishes"
_EXAMPLES = "examples.json"


def state_home() -> Path:
    """Returns ``USHER_STATE_HOME``, else ``$XDG_STATE_HOME/usher`` or ``~/.local/state/usher``.
    Raises ConnectionsError."""
    if folder := os.environ.get("USHER_STATE_HOME"):
        return expand_home(folder)
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return expand_home(base) / "usher"


def saved_applications() -> list[dict[str, Any]]:
    """Returns the saved entries of ``save_application`` for all applications on this machine.
    Raises ConnectionsError."""
    return [_read_entry(file) for file in sorted(state_home().glob(f"*/{_APPLICATION}"))]


def _read_entry(file: Path) -> dict[str, Any]:
    """Returns the entry in a file of ``save_application``. Raises ConnectionsError."""
    entry = _read_json(file)
    if not isinstance(entry, dict) or not isinstance(entry.get(OPTIONS), dict):
        raise ConnectionsError(f"{file} is not a file of `usher connect`; remove it")
    return entry


def _read_json(file: Path) -> Any:
    """Returns the content of a JSON file. Raises ConnectionsError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectionsError(f"{file} can't be read ({error}); repair or remove it") from error


class RestartMark:
    """A file that marks an LMS as due for a restart.

    The file is created before the LMS's settings are rendered, and deleted after the restart.
    Nothing else shows whether a running LMS has read its newest settings.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self._file = state_home() / f"{name}.restart-due"

    @property
    def is_set(self) -> bool:
        """Whether the LMS is due for a restart."""
        return self._file.exists()

    def set(self) -> None:
        write_private(self._file, b"")

    def clear(self) -> None:
        remove_private(self._file)


class SavedDescription:
    """The description of the LMS's records, saved while a disconnection is in progress.

    The last steps of a disconnection need the description after Tutor's own copy was deleted.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self._file = state_home() / f"{name}.saved.json"

    def save(self, description: Description) -> None:
        write_private(self._file, description.to_json().encode())

    def description(self) -> Description | None:
        return Description.from_json(self._file.read_text()) if self._file.exists() else None

    def delete(self) -> None:
        remove_private(self._file)


class SavedState:
    """What connect saves about one application: its ``.env`` and its OAuth2 record from the time
    before Usher, which are never overwritten; the options of the last connect; and the example
    values that connect has written."""

    def __init__(self, application: str) -> None:
        """application: the path of the application's ``.env``, or its address."""
        self.folder = state_home() / hashlib.sha256(application.encode()).hexdigest()[:16]

    def save_env(self, path: Path) -> None:
        """Saves a copy of the ``.env``, or the fact that there was no ``.env``. Does nothing if the
        copy or the fact was saved before."""
        if (self.folder / _ENV).exists() or (self.folder / _NO_ENV).exists():
            return
        if path.exists():
            self._write(_ENV, path.read_bytes())
        else:
            self._write(_NO_ENV, b"")

    def save_record(self, record: dict[str, Any] | None) -> None:
        """Saves the fields of the application's OAuth2 record of the LMS, unless they were saved
        before. record: None if there was no such record, which is saved, too."""
        if not (self.folder / _RECORD).exists():
            self._write(_RECORD, json.dumps(record).encode())

    def save_application(self, options: dict[str, Any], *, root: str, lms: str) -> None:
        """Saves the options given to ``usher connect``, so that ``usher disconnect`` needs none.
        They must not contain secrets. root: the LMS's folder. lms: the program that runs the LMS,
        as in ``Connection``."""
        entry = {OPTIONS: options, "root": root, "lms": lms}
        self._write(_APPLICATION, json.dumps(entry, indent=1).encode())

    def env(self) -> EnvFile | None:
        """Returns the ``.env`` as ``save_env`` saved it, empty if there was no ``.env``; None if
        nothing was saved."""
        if (self.folder / _NO_ENV).exists():
            return EnvFile()
        return EnvFile.read(self.folder / _ENV) if (self.folder / _ENV).exists() else None

    def save_examples(self, values: dict[str, str]) -> None:
        """Saves the example values that connect is about to write into the ``.env``."""
        if values:
            self._write(_EXAMPLES, json.dumps(self.examples() | values).encode())

    def examples(self) -> dict[str, str]:
        """Returns the example values that connect has written into the ``.env``."""
        file = self.folder / _EXAMPLES
        return dict(_read_json(file)) if file.exists() else {}

    @property
    def had_no_env(self) -> bool:
        """Whether there was no ``.env`` when ``save_env`` was called."""
        return (self.folder / _NO_ENV).exists()

    def record(self) -> dict[str, Any] | None:
        """Returns what ``save_record`` saved; None if nothing was saved, or there was no record."""
        file = self.folder / _RECORD
        return _read_json(file) if file.exists() else None

    def delete(self) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        return "deleted"

    def _write(self, name: str, data: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.folder / name, data)
