"""The folder of ``usher dev``: closed to others, and the project's own files stay as they are."""

import stat
from pathlib import Path

from usher.cli.dev.beside import Beside
from usher.cli.dev.project import Project
from usher.embedded.home.process import free_port


def test_it_is_closed_to_others_and_touches_nothing_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".gitignore").write_text("build/\n")
    home = tmp_path / "lms"
    home.mkdir(mode=0o755)
    beside = Beside(Project.at(tmp_path), home, free_port(), free_port())
    try:
        beside.open()
    finally:
        beside.stop()
    assert (tmp_path / ".gitignore").read_text() == "build/\n"
    assert (home / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.iterdir()
        if path.name not in (".gitignore", "lock")
    }
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}, modes
