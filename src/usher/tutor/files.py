"""Files of the plugin in a Tutor root: the description of the LMS's records, readable by few, and
the wheel."""

import os
import shutil
import sys
from pathlib import Path

from usher.contract import wheel
from usher.tutor.description import FILENAME

#: The user that runs in the Open edX image (APP_USER_ID of Tutor's Dockerfile).
CONTAINER_USER = 1000
#: Paths in Tutor's root.
DESCRIPTION = Path("env/apps/openedx/config") / FILENAME
WHEELS = Path("env/build/openedx/usher")


def protect_secrets(root: Path) -> None:
    """Makes config.yml and the description, which contain all secrets, unreadable for other users.

    Must be called before Tutor renders: an existing file keeps its mode when it is written.

    The container's user must be able to read the description. If the user who runs Tutor has
    another id, the file is readable by all users, and the mode of a parent folder keeps other users
    of this machine out. That mode has no effect in the container, where only the file is mounted.
    On macOS, Docker gives the container's user access to the files of the user who runs it.
    """
    if (root / "config.yml").exists():
        _chmod(root / "config.yml", 0o600)
    description = root / DESCRIPTION
    description.parent.mkdir(parents=True, exist_ok=True)
    description.touch(mode=0o600, exist_ok=True)
    user = os.geteuid()
    if user == 0:
        os.chown(description, CONTAINER_USER, -1)
    if user in (0, CONTAINER_USER) or sys.platform == "darwin":
        _chmod(description, 0o600)
    else:
        _chmod(description.parent.parent, 0o700)
        _chmod(description, 0o644)


def write_wheel(root: Path) -> None:
    """Writes this package's wheel into the image's build context, and deletes all other wheels
    there."""
    folder = root / WHEELS
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / wheel.filename()
    for wheel_file in folder.glob("*.whl"):
        if wheel_file != target:
            wheel_file.unlink()
    content = wheel.build()
    if not target.exists() or target.read_bytes() != content:
        target.write_bytes(content)


def remove_files(root: Path) -> None:
    """Deletes the description and the wheel. Call it when the plugin is disabled."""
    (root / DESCRIPTION).unlink(missing_ok=True)
    shutil.rmtree(root / WHEELS, ignore_errors=True)


def _chmod(path: Path, mode: int) -> None:
    # Only the owner and root may set a mode, even if it stays the same.
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
