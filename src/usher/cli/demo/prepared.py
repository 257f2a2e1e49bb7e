"""Records the inputs of a set-up, so that a later start can skip it if they have not changed."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import usher

FILE_NAME = "prepared.json"


def fingerprint(*parts: str, folders: Iterable[Path] = ()) -> str:
    """A hash of ``parts``, Usher's version, and the names of the migrations of Usher and in
    ``folders``."""
    inputs = [usher.__version__, *parts]
    for root in (Path(usher.__file__).parent, *folders):
        inputs += sorted(path.name for path in root.rglob("migrations/0*.py"))
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()


def is_prepared(home: Path, expected: str) -> bool:
    """Whether ``home`` was set up with the fingerprint ``expected``."""
    return bool(expected == read_record(home).get("fingerprint"))


def read_record(home: Path) -> dict[str, Any]:
    """The values that :func:`save_record` wrote; empty if there is no readable file."""
    try:
        record = json.loads((home / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def save_record(home: Path, new_fingerprint: str, **other_values: Any) -> None:
    """Records that ``home`` is set up with the fingerprint ``new_fingerprint``. other_values: also
    saved."""
    (home / FILE_NAME).write_text(json.dumps({**other_values, "fingerprint": new_fingerprint}))
