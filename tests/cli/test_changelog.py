"""``make changelog`` writes the entries of ``changelog.d/`` as sentences for users."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_changelog_entry_has_its_text_and_not_the_name_of_its_file(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    entries = tmp_path / "changelog.d"
    entries.mkdir()
    (entries / "second.fixed.md").write_text("A fault is\ncorrected.\n")
    (entries / "first.added.md").write_text("Something is new.\n")
    (entries / "third.fixed.md").write_text("So is another.\n")
    draft = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.0.0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    title, _, rest = draft.partition("\n")
    assert title.startswith("## 9.0.0 (")
    assert rest.strip() == (
        "### Added\n\n- Something is new.\n\n"
        "### Fixed\n\n- A fault is\n  corrected.\n- So is another."
    )


def test_a_release_is_the_only_one_in_the_changelog_until_the_next_release(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("config", "changelog.d"):
        shutil.copytree(ROOT / name, tmp_path / name)
    before = (tmp_path / "CHANGELOG.md").read_text()
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.0.0"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    text = (tmp_path / "CHANGELOG.md").read_text()
    assert "unreleased" not in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    older_titles = [line for line in before.splitlines() if line.startswith("## ")]
    # The new release is on top, and the older ones stay below it.
    assert titles[0].startswith("## 9.0.0 (")
    assert titles[1:] == older_titles
