"""What the manual procedure leaves in a Tutor root and a mounted edx-platform."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def found(root: Path, look: dict[str, Any]) -> Iterator[str]:
    """One line for each, saying where it is and what will become of it."""
    private = root / "env/build/openedx/requirements/private.txt"
    if private.is_file() and private.read_text(errors="replace").strip():
        yield (
            f"{private} lists packages by hand; Tutor no longer reads it, the plugin puts "
            "the backends into the image: remove it"
        )
    for platform in _mounted_platforms(look["values"].get("MOUNTS") or []):
        for name in ("private.py", "private_requirements.txt"):
            file = platform / "lms/envs" / name if name.endswith(".py") else platform / name
            if file.is_file():
                yield (
                    f"{file} sets things by hand and shadows what the plugin sets: remove it "
                    "when the plugin is enabled"
                )
    by_file: dict[str, list[str]] = {}
    for name, mark in look["edits"]:
        by_file.setdefault(name, []).append(mark)
    for name, marks in by_file.items():
        yield (
            f"{root / 'env' / name} was edited by hand ({', '.join(marks)}); rendering "
            "replaces it, and the plugin sets these instead"
        )


def _mounted_platforms(mounts: list[Any]) -> Iterator[Path]:
    """A mount is a path, or ``service:/path/on/host:/path/inside``."""
    for mount in mounts:
        parts = str(mount).split(":")
        path = Path(parts[0] if len(parts) == 1 else parts[1])
        if (path / "lms/envs").is_dir():
            yield path
