"""The state before Usher, kept so that ``disconnect`` can restore it.

It lies in the operator's state folder and not in the checkout, where nothing but ``.env`` may
change and where a copy with secrets could be committed. Files 0600, folders 0700.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from usher.contract.envfile import EnvFile, write_private
from usher.contract.provisioning import Description

_ENV = "env.before"
_NO_ENV = "env.absent"
_RECORD = "record.before.json"
_SUBJECT = "subject.json"


def state_home() -> Path:
    """``USHER_STATE_HOME``, else ``$XDG_STATE_HOME/usher``, else ``~/.local/state/usher``."""
    if given := os.environ.get("USHER_STATE_HOME"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "usher"


def known_subjects() -> list[dict[str, Any]]:
    """The applications that are connected from here, as ``keep_subject`` was told."""
    files = sorted(state_home().glob(f"*/{_SUBJECT}"))
    return [dict(json.loads(file.read_text())) for file in files]


class RestartMark:
    """Stands from before a platform's settings are rendered until its LMS was restarted.

    Whether a running LMS has read its newest settings can't be seen from outside.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self._file = state_home() / f"{name}.restart-due"

    @property
    def stands(self) -> bool:
        return self._file.exists()

    def set(self) -> None:
        write_private(self._file, b"")

    def clear(self) -> None:
        _remove(self._file)


def _remove(file: Path) -> None:
    """With what a write that was killed left beside it."""
    for each in (file, *file.parent.glob(f".{file.name}.*")):
        each.unlink(missing_ok=True)


class Leaving:
    """What an undoing in progress must know to its end, when Tutor has forgotten it already."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self._file = state_home() / f"{name}.leaving.json"

    def keep(self, description: Description) -> None:
        write_private(self._file, description.to_json().encode())

    def description(self) -> Description | None:
        return Description.from_json(self._file.read_text()) if self._file.exists() else None

    def forget(self) -> None:
        _remove(self._file)


class Before:
    """The state of one application before Usher; kept once, never overwritten."""

    def __init__(self, subject: str) -> None:
        """subject: the path of its ``.env``, or its address."""
        self.folder = state_home() / hashlib.sha256(subject.encode()).hexdigest()[:16]

    def keep_env(self, path: Path) -> None:
        if (self.folder / _ENV).exists() or (self.folder / _NO_ENV).exists():
            return
        if path.exists():
            self._write(_ENV, path.read_bytes())
        else:
            self._write(_NO_ENV, b"")

    def keep_record(self, record: dict[str, Any] | None) -> None:
        """record: the fields of the OAuth2 record, None when there was none."""
        if not (self.folder / _RECORD).exists():
            self._write(_RECORD, json.dumps(record).encode())

    def keep_subject(self, facts: dict[str, Any]) -> None:
        """What ``disconnect`` needs to find this application again: never a secret."""
        self._write(_SUBJECT, json.dumps(facts, indent=1).encode())

    def subject(self) -> dict[str, Any]:
        file = self.folder / _SUBJECT
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def env(self) -> EnvFile | None:
        """The ``.env`` of before; None when it isn't known."""
        if (self.folder / _NO_ENV).exists():
            return EnvFile()
        return EnvFile.read(self.folder / _ENV) if (self.folder / _ENV).exists() else None

    @property
    def had_no_env(self) -> bool:
        return (self.folder / _NO_ENV).exists()

    def record(self) -> dict[str, Any] | None:
        """The OAuth2 record of before; None when there was none, or it isn't known."""
        file = self.folder / _RECORD
        return json.loads(file.read_text()) if file.exists() else None

    def forget(self) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        return "forgotten"

    def _write(self, name: str, data: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.folder / name, data)
