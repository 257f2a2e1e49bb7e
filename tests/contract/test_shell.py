"""Printed commands give a program the settings of an env file as Usher reads them, even where a
shell would read the file in another way."""

import subprocess
import sys
from pathlib import Path

import pytest

from usher.contract.shell import with_env_file

PRINT = f"{sys.executable} -c 'import os; print(os.environ[\"SITE\"], os.getcwd())'"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SITE=plain\n", "plain"),
        ("SITE='a b'\n", "a b"),
        ("SITE=a b\n", "a b"),
        ("SITE = spaced\r\n", "spaced"),
        ("SITE=https://a.example/?x=1&y=2\n", "https://a.example/?x=1&y=2"),
        ("\ufeffSITE=plain\n", "plain"),
        ("SITE=\n", ""),
    ],
)
def test_a_printed_command_gives_the_program_the_settings_of_the_file(
    tmp_path: Path, text: str, value: str
) -> None:
    folder = tmp_path / "a shop"
    folder.mkdir()
    env_file = folder / ".env"
    env_file.write_bytes(text.encode())
    command = with_env_file(PRINT, folder, env_file)
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout == f"{value} {folder}\n"


def test_an_empty_value_in_the_file_does_not_replace_a_value_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE", "of the environment")
    env_file = tmp_path / ".env"
    env_file.write_text("SITE=\n")
    command = with_env_file(PRINT, tmp_path, env_file)
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout == f"of the environment {tmp_path}\n"


def test_the_error_for_a_program_that_does_not_exist_names_the_program(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    # A shell would read another value from this line, so ``run_with_env`` starts the program.
    env_file.write_text("SITE=a b\n")
    command = with_env_file("no-such-program", tmp_path, env_file)
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        1,
        "no-such-program can't be run: No such file or directory\n",
    )


def test_a_command_without_env_file_and_folder_is_not_changed(tmp_path: Path) -> None:
    # There is no such file.
    assert with_env_file("make", None, tmp_path / ".env") == "make"
    assert with_env_file("make", None, None) == "make"
