"""What a set-up depended on, so that a later run knows whether it can be skipped."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import usher

FILE_NAME = "prepared.json"


def fingerprint(*parts: str, folders: Iterable[Path] = ()) -> str:
    """Changes with these parts, the version of Usher, and the migrations of Usher and folders."""
    found = [usher.__version__, *parts]
    for root in (Path(usher.__file__).parent, *folders):
        found += sorted(path.name for path in root.rglob("migrations/0*.py"))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def is_prepared(home: Path, wanted: str) -> bool:
    """Whether the folder was set up with this fingerprint."""
    return bool(wanted == told(home).get("fingerprint"))


def told(home: Path) -> dict[str, Any]:
    """What :func:`note` wrote; empty when nothing readable is there."""
    try:
        found = json.loads((home / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(home: Path, wanted: str, **more: Any) -> None:
    (home / FILE_NAME).write_text(json.dumps({**more, "fingerprint": wanted}))
