"""Virtual environments with real Tutor and tutor-mfe, made once and kept in ``.cache``."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[3]
LOCKS = Path(__file__).parent / "locks"
RELEASES = tuple(sorted(int(path.stem) for path in LOCKS.glob("*.txt")))


@cache
def tutor_executable(release: int) -> Path:
    """``tutor`` of that release (20, 21, 22), with tutor-mfe and this checkout's plugin.

    The first call of all installs the locked versions from the package index, which takes about
    half a minute; other processes wait for it.
    """
    home = PROJECT / ".cache" / f"tutor-{release}"
    home.parent.mkdir(exist_ok=True)
    lock, project = LOCKS / f"{release}.txt", PROJECT / "pyproject.toml"
    with home.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        _once(home / ".tutor", lock, lambda: _install(home, "--requirement", lock, new=True))
        _once(home / ".usher", project, lambda: _install(home, "--editable", PROJECT))
    return home / "bin" / "tutor"


def tutor_without_usher(release: int, home: Path) -> Path:
    """``tutor`` of an environment of its own, as before anybody heard of Usher."""
    original = tutor_executable(release)
    shutil.copytree(original.parents[1], home, symlinks=True)
    executable = home / "bin" / "tutor"
    executable.write_text(executable.read_text().replace(str(original.parents[1]), str(home)))
    pip = [home / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "--yes", "openedx-usher"], check=True)
    return executable


def _once(stamp: Path, source: Path, action: Callable[[], None]) -> None:
    """``action``, unless it was done for what is in ``source`` now."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        action()
        stamp.write_text(digest)


def _install(home: Path, *what: str | Path, new: bool = False) -> None:
    if new:
        (home / ".usher").unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--disable-pip-version-check", *what], check=True)
