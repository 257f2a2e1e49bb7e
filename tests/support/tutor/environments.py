"""Virtual environments with real Tutor and tutor-mfe, created once and kept in ``.cache``."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

PROJECT = Path(__file__).parents[3]
LOCKS = Path(__file__).parent / "locks"
RELEASES = tuple(sorted(int(path.stem) for path in LOCKS.glob("*.txt")))


@cache
def tutor_executable(release: int) -> Path:
    """The path of ``tutor`` of that release (20, 21, 22), with tutor-mfe and this checkout of
    Usher. The first call on a machine installs them, which takes some fifteen seconds."""
    return _environment(release) / "bin/tutor"


@cache
def _environment(release: int) -> Path:
    """The folder of the release's virtual environment. The first call installs the locked versions
    from the package index; other processes wait for it."""
    home = PROJECT / ".cache" / f"tutor-{release}"
    home.parent.mkdir(exist_ok=True)
    lock, project = LOCKS / f"{release}.txt", PROJECT / "pyproject.toml"
    with home.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        _run_if_changed(home / ".tutor", lock, lambda: _create(release, home))
        _run_if_changed(home / ".usher", project, lambda: _install_usher(home))
    return home


def tutor_without_usher(release: int, home: Path) -> Path:
    """The path of ``tutor`` in a new virtual environment without Usher, in the folder ``home``."""
    _copy(_environment(release), home)
    _pip(home, "uninstall", "--yes", "openedx-usher")
    return home / "bin" / "tutor"


def _create(release: int, home: Path) -> None:
    """Creates the environment. Releases differ in few packages, so the environment of an older
    release is a copy of the newest release's, with other versions of these packages."""
    if release == RELEASES[-1]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    else:
        _copy(_environment(RELEASES[-1]), home)
    # pip compiles no modules: Python compiles those that it imports, a tenth of all.
    _pip(home, "install", "--no-deps", "--no-compile", "--requirement", LOCKS / f"{release}.txt")


def _install_usher(home: Path) -> None:
    """Installs this checkout as an editable package, as in the tests' own environment."""
    usher = distribution("openedx-usher")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    for file in usher.files or ():
        if ".." not in file.parts:  # Tutor does not use the ``usher`` command
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            _replace_file(packages / file, Path(str(usher.locate_file(file))).read_bytes())


def _copy(original: Path, home: Path) -> None:
    """Copies a virtual environment, and changes the path of Python in its scripts."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(original, home, symlinks=True, copy_function=_link)
    for script in (home / "bin").iterdir():
        content = script.read_bytes() if not script.is_symlink() else b""
        if str(original).encode() in content:
            _replace_file(script, content.replace(str(original).encode(), str(home).encode()))
            script.chmod(0o755)


def _link(source: str, target: str) -> None:
    """Hard-links the file, or copies it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _replace_file(path: Path, content: bytes) -> None:
    """Replaces the file instead of changing it, since it may be hard-linked to another one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _run_if_changed(stamp: Path, source: Path, action: Callable[[], None]) -> None:
    """Calls ``action``, unless the file ``stamp`` shows that ``action`` was called for the present
    content of ``source``."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        action()
        _replace_file(stamp, digest.encode())


def _pip(home: Path, *words: str | Path) -> None:
    command = [home / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *words], check=True)
