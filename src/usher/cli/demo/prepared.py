"""Records what a set-up depended on, so that a later run can skip it if nothing has changed."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import usher

FILE_NAME = "prepared.json"


def fingerprint(*parts: str, folders: Iterable[Path] = ()) -> str:
    """A hash of ``parts``, Usher's version, and the migrations of Usher and in ``folders``."""
    found = [usher.__version__, *parts]
    for root in (Path(usher.__file__).parent, *folders):
        found += sorted(path.name for path in root.rglob("migrations/0*.py"))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def is_prepared(home: Path, wanted: str) -> bool:
    """Whether ``home`` was set up with the fingerprint ``wanted``."""
    return bool(wanted == recorded(home).get("fingerprint"))


def recorded(home: Path) -> dict[str, Any]:
    """What :func:`note` wrote; empty if there is no readable file."""
    try:
        found = json.loads((home / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(home: Path, wanted: str, **more: Any) -> None:
    """Records that ``home`` is set up with this fingerprint; more: further values to keep."""
    (home / FILE_NAME).write_text(json.dumps({**more, "fingerprint": wanted}))
