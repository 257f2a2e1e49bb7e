"""Virtual environments with real Tutor and tutor-mfe, made once and kept in ``.cache``."""

import fcntl
import hashlib
import subprocess
import sys
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
    lock = LOCKS / f"{release}.txt"
    wanted = hashlib.sha256(lock.read_bytes() + (PROJECT / "pyproject.toml").read_bytes())
    stamp = home / ".installed"
    with home.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted.hexdigest():
            _install(home, lock)
            stamp.write_text(wanted.hexdigest())
    return home / "bin" / "tutor"


def _install(home: Path, lock: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    pip.append("--disable-pip-version-check")
    subprocess.run([*pip, "--requirement", lock], check=True)
    subprocess.run([*pip, "--editable", PROJECT], check=True)
