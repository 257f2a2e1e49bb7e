"""Records the inputs of a set-up, so that a later run can skip it if they have not changed."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import usher

FILE_NAME = "prepared.json"


def fingerprint(*parts: str, folders: Iterable[Path] = ()) -> str:
    """A hash of ``parts``, Usher's version, and the migrations of Usher and in ``folders``."""
    parts_of_text = [usher.__version__, *parts]
    for root in (Path(usher.__file__).parent, *folders):
        parts_of_text += sorted(path.name for path in root.rglob("migrations/0*.py"))
    return hashlib.sha256("\n".join(parts_of_text).encode()).hexdigest()


def is_prepared(home: Path, expected: str) -> bool:
    """Whether ``home`` was set up with the fingerprint ``expected``."""
    return bool(expected == read_note(home).get("fingerprint"))


def read_note(home: Path) -> dict[str, Any]:
    """The values that :func:`note` wrote; empty if there is no readable file."""
    try:
        record = json.loads((home / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def note(home: Path, expected: str, **more: Any) -> None:
    """Records that ``home`` is set up with the fingerprint ``expected``. more: further values to
    keep."""
    (home / FILE_NAME).write_text(json.dumps({**more, "fingerprint": expected}))
