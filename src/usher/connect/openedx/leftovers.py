"""Finds edits of the manual procedure in a Tutor root and in a mounted edx-platform."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def find_edits(root: Path, report: dict[str, Any]) -> Iterator[str]:
    """Yields a line for each edit of the manual procedure, which the plugin replaces: where it is,
    and what the operator must do or Tutor will do. report: the result of ``inspect_root``."""
    private = root / "env/build/openedx/requirements/private.txt"
    if private.is_file() and private.read_text(errors="replace").strip():
        yield (
            f"{private} lists packages by hand. Remove the file: Tutor no longer reads it, and the "
            "plugin installs the backends in the image"
        )
    for platform in _mounted_platforms(report["values"].get("MOUNTS") or []):
        for name in ("lms/envs/private.py", "private_requirements.txt"):
            file = platform / name
            if file.is_file():
                yield (
                    f"{file} overrides settings of the plugin: remove this file after the plugin "
                    "is enabled"
                )
    edited_files: dict[str, list[str]] = {}
    for name, edited_setting in report["edits"]:
        edited_files.setdefault(name, []).append(edited_setting)
    for name, edited_settings in edited_files.items():
        yield (
            f"{root / 'env' / name} was edited by hand ({', '.join(edited_settings)}). Rendering "
            "replaces the file, and the plugin sets these values"
        )


def _mounted_platforms(mounts: list[Any]) -> Iterator[Path]:
    """Yields the mounted folders of edx-platform.

    A mount is a path, or ``service:/path/on/host:/path/inside``.
    """
    for mount in mounts:
        parts = str(mount).split(":")
        path = Path(parts[0] if len(parts) == 1 else parts[1])
        if (path / "lms/envs").is_dir():
            yield path
