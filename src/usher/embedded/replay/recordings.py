"""Recordings of a real LMS: one JSON file for each exchange, in the order of their names."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class RecordingError(ValueError):
    """A file isn't a recording; the message names it."""


@dataclass(frozen=True)
class Recording:
    """One exchange. name: the file's name without ``.json``. request: ``method``, ``path``, and
    optionally ``headers``, ``params``, ``data`` or ``json``. response: ``status``, ``headers`` and
    ``body``. session: requests with the same session share cookies; '' for none. given: the state
    that the exchange requires (see ``replay.state``)."""

    name: str
    title: str
    request: dict[str, Any]
    response: dict[str, Any]
    session: str = ""
    given: dict[str, Any] = field(default_factory=dict)


def _read_recording(path: Path) -> Recording:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Recording(
            name=path.stem,
            title=data.get("title", path.stem),
            request=data["request"],
            response=data["response"],
            session=data.get("session", ""),
            given=data.get("given", {}),
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RecordingError(f"{path} is not a recording: {error}") from error


def load(folder: Path) -> list[Recording]:
    """The recordings in ``folder``. Raises RecordingError for an invalid file, or if there are
    none."""
    recordings = [_read_recording(path) for path in sorted(folder.glob("*.json"))]
    if not recordings:
        raise RecordingError(f"there are no recordings (*.json) in {folder}")
    return recordings
