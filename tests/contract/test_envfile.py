"""The editor of ``.env`` files: what it reads, refuses and keeps."""

import errno
import io
import os
import stat
import string
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from usher.contract.envfile import (
    EnvFile,
    EnvFileError,
    format_value,
    update,
    why_not_writable,
    write,
    write_private,
)

#: Names, values and whole files of settings. A token can be written without quotes.
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,12}", fullmatch=True)
VALUES = st.text(max_size=30)
TOKENS = st.text(alphabet=string.ascii_letters + string.digits + "._/:@%+,=?&-", max_size=30)
LINES = st.one_of(
    st.just(""),
    st.text(alphabet=string.printable.replace("\n", "").replace("\r", ""), max_size=20).map(
        "# {}".format
    ),
    st.builds("{}={}".format, NAMES, TOKENS),
    st.builds("export {}='{}' # why".format, NAMES, TOKENS),
    st.builds('{}="{}"'.format, NAMES, TOKENS),
)
FILES = st.builds(
    lambda lines, newline, end: newline.join(lines) + end,
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n"]),
)


def can_be_written(value: str) -> bool:
    try:
        format_value("KEY", value)
    except EnvFileError:
        return False
    return True


@given(st.text())
def test_any_text_can_be_read_and_is_kept_unchanged(text):
    assert EnvFile(text).without([]).text == text
    EnvFile(text).problems()


@given(FILES, st.dictionaries(NAMES, VALUES, max_size=4))
def test_a_written_value_is_read_back_and_other_lines_stay(text, values):
    assume(all(can_be_written(value) for value in values.values()))
    original = EnvFile(text)
    changed = original.with_values(values)
    assert changed.values() == {**original.values(), **values}
    assert changed.without(values).text.rstrip() == original.without(values).text.rstrip()
    assert changed.with_values(values) == changed


@given(FILES, st.dictionaries(NAMES, TOKENS, max_size=4))
def test_restoring_all_written_keys_restores_the_file_exactly(text, values):
    original = EnvFile(text)
    assert original.with_values(values).restored(values, original) == original


@given(
    FILES, st.dictionaries(NAMES, TOKENS, min_size=1, max_size=3), st.dictionaries(NAMES, TOKENS)
)
def test_restoring_keys_keeps_later_changes_of_other_keys(text, restored_values, other_values):
    other_values = {key: value for key, value in other_values.items() if key not in restored_values}
    original = EnvFile(text)
    changed = (
        original.with_values(restored_values)
        .with_values(other_values)
        .restored(restored_values, original)
    )
    assert changed.values() == {**original.values(), **other_values}


@given(VALUES)
def test_python_dotenv_reads_a_written_value(value):
    assume(can_be_written(value))
    text = EnvFile().with_values({"KEY": value}).text
    assert dotenv_values(stream=io.StringIO(text, newline=""), interpolate=True) == {"KEY": value}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")), min_size=20)
)
def test_a_shell_reads_written_values(tmp_path_factory, values):
    values = {f"K{i}": value for i, value in enumerate(values) if can_be_written(value)}
    file = tmp_path_factory.mktemp("env") / ".env"
    write(file, EnvFile().with_values(values))
    output = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; exec env -0', "sh", str(file)],
        capture_output=True,
        check=True,
        env={},
    ).stdout
    read_values = dict(item.split("=", 1) for item in output.decode().split("\0") if item)
    assert {key: read_values.get(key) for key in values} == values


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ("# head (local)\n\nexport A=1 # why\nB='two words' # c\nC=\"x y\"\nD=\n", True),
        ("A=1\r\n", False),
        ("\ufeffA=1\n", False),
        ("A=two words\n", False),
        ("A = 1\n", False),
        ("A=shops&friends\n", False),
        ('A="$HOME"\n', False),
        ("A='two\nlines'\n", False),
    ],
)
def test_is_same_in_a_shell_is_true_only_if_a_shell_reads_the_same_values(tmp_path, text, is_same):
    file = tmp_path / ".env"
    file.write_text(text, newline="")
    assert EnvFile(text).is_same_in_a_shell == is_same
    if is_same:
        command = ["sh", "-c", 'set -a; . "$1"; exec env -0', "sh", str(file)]
        output = subprocess.run(command, capture_output=True, check=True, env={}).stdout.decode()
        assert {f"{k}={v}" for k, v in EnvFile(text).values().items()} <= set(output.split("\0"))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("http://lms:8000/auth/?a=b", "http://lms:8000/auth/?a=b"),
        ("two words", "'two words'"),
        ("a#b", "'a#b'"),
        ("cash$5", "'cash$5'"),
        ("it's", '"it\'s"'),
        ("", ""),
    ],
)
def test_a_value_is_quoted_only_if_needed(value, written):
    assert format_value("KEY", value) == written


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b", "a\\b c", "${HOME}", "'$\""])
def test_a_value_that_programs_would_read_differently_is_refused_and_not_shown(value):
    with pytest.raises(EnvFileError, match="value of SECRET") as refusal:
        EnvFile().with_values({"SECRET": value})
    assert value not in str(refusal.value)


def test_a_changed_value_keeps_its_place_and_its_comment():
    text = "# head\nexport A=1 # why\n\nB = 2\n# tail\n"
    assert EnvFile(text).with_values({"A": "9", "B": "8"}).text == (
        "# head\nexport A=9 # why\n\nB=8\n# tail\n"
    )


def test_the_last_line_of_a_key_is_changed():
    assert EnvFile("A=1\nA=2\n").with_values({"A": "3"}).text == "A=1\nA=3\n"


def test_windows_line_ends_are_kept_and_a_missing_last_line_end_is_added():
    assert EnvFile("A=1\r\nB=2").with_values({"A": "3", "C": "4"}).text == "A=3\r\nB=2\r\nC=4\r\n"


def test_a_file_with_an_open_quote_is_not_changed():
    with pytest.raises(EnvFileError, match="line 1: A starts with a quote"):
        EnvFile("A='open\nB=1\n").with_values({"C": "two words"})


def test_problems_name_their_lines_and_do_not_show_values():
    text = (
        "A=s3cret\n# c\n\nA=other\nB = s3cret\nC='s3cret'\nD=“s3cret”\nno sense s3cret\n"
        "E\nF-G=s3cret\nH='s3cret\n"
    )
    problems = EnvFile(text).problems()
    serious = [problem for problem in problems if problem.serious]
    assert [(problem.line, problem.kind, problem.key) for problem in serious] == [
        (1, "duplicate", "A"),
        (5, "spaces", "B"),
        (7, "quotes", "D"),
        (8, "malformed", ""),
        (9, "malformed", "E"),
        (10, "name", "F-G"),
        (11, "malformed", ""),
    ]
    (harmless,) = [problem for problem in problems if not problem.serious]
    assert (harmless.line, harmless.kind) == (6, "quotes")
    assert "s3cret" not in " ".join(map(str, problems))


def test_blank_lines_count_in_the_numbers_of_lines():
    assert EnvFile("\n\n  \nA=1\n").line_of("A") == 4


def test_written_files_are_private_and_the_backup_keeps_the_first_content(tmp_path: Path):
    file, backup = tmp_path / ".env", tmp_path / "kept" / "before"
    file.write_text("A=1\n")
    file.chmod(0o644)
    assert write(file, EnvFile("A=2\n"), backup=backup)
    assert write(file, EnvFile("A=3\n"), backup=backup)
    assert not write(file, EnvFile("A=3\n"), backup=backup)
    assert (file.read_text(), backup.read_text()) == ("A=3\n", "A=1\n")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, backup)] == [0o600, 0o600]
    assert {path.name for path in tmp_path.iterdir()} == {".env", "kept"}


def test_a_file_that_others_can_read_becomes_private_even_if_its_text_stays(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("A=1\n")
    file.chmod(0o644)
    assert write(file, EnvFile("A=1\n"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_target_of_a_symbolic_link_is_changed(tmp_path: Path):
    (tmp_path / "real").write_text("A=1\n")
    (tmp_path / ".env").symlink_to("real")
    write(tmp_path / ".env", EnvFile("A=2\n"))
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "real").read_text() == "A=2\n"


def test_the_error_for_text_that_is_not_utf8_names_the_line(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"A=1\nB=\xff\n")
    with pytest.raises(EnvFileError, match="line 2: not UTF-8"):
        EnvFile.read(tmp_path / ".env")


def test_an_empty_value_does_not_replace_a_value_of_the_environment():
    env_file = EnvFile("SECRET_KEY=\nDEBUG=False\nLOCALE=\n")
    environment = {"SECRET_KEY": "from-the-environment", "DEBUG": "True"}
    assert env_file.values_for_process(environment) == {"DEBUG": "False", "LOCALE": ""}


def test_the_error_for_a_path_that_is_not_a_file_names_the_path(tmp_path: Path):
    folder = tmp_path / ".env"
    folder.mkdir()
    with pytest.raises(EnvFileError, match="is a folder; docker makes one"):
        EnvFile.read(folder)
    circular_link = tmp_path / "circular.env"
    circular_link.symlink_to(circular_link)
    with pytest.raises(EnvFileError, match=r"circular\.env can't be read"):
        EnvFile.read(circular_link)


def test_a_byte_order_mark_windows_line_ends_and_long_values_are_kept(tmp_path: Path):
    path = tmp_path / "folder with spaces 🚀" / ".env"
    path.parent.mkdir()
    long_value = "x" * 10_000
    path.write_bytes(f"\ufeffA=1\r\nLONG={long_value}\r\n".encode())
    update(path, {"A": "2", "NEW": long_value})
    assert path.read_bytes() == f"\ufeffA=2\r\nLONG={long_value}\r\nNEW={long_value}\r\n".encode()
    assert EnvFile.read(path).values() == {"A": "2", "LONG": long_value, "NEW": long_value}


def test_a_file_in_utf_16_without_a_mark_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / ".env"
    path.write_bytes("A=1\n".encode("utf-16-le"))
    with pytest.raises(EnvFileError, match=r"line 1: a NUL character; save the file as UTF-8"):
        EnvFile.read(path)


def test_a_file_that_can_not_be_written_keeps_its_content_and_the_error_names_it(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("A=1\n")
    # A process that may write files of ten bytes only.
    script = (
        "import pathlib, resource, sys; from usher.contract import envfile;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10));"
        "envfile.write_private(pathlib.Path(sys.argv[1]), b'x' * 100)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, file], capture_output=True, text=True, check=False
    )
    assert f"FileNotWritten: {file} can't be written: File too large" in result.stderr
    assert file.read_text() == "A=1\n"
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_the_error_of_a_refused_write_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=rf"\.env can't be written: .*free space in {tmp_path}$"):
        write_private(tmp_path / ".env", b"A=1\n")


def test_the_temporary_file_of_a_killed_process_is_deleted_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / ".env"
    script = (
        "import os, pathlib, sys; from usher.contract import envfile;"
        "os.fsync = lambda number: os.kill(os.getpid(), 9);"
        "envfile.write_private(pathlib.Path(sys.argv[1]), b'SECRET=1')"
    )
    assert subprocess.run([sys.executable, "-c", script, file], check=False).returncode == -9
    own_file = tmp_path / "..env.template"
    own_file.touch()
    assert len(list(tmp_path.iterdir())) == 2

    # The next write deletes it first, as it may have filled the disk.
    folder_when_written = []
    monkeypatch.setattr(os, "fsync", lambda number: folder_when_written.extend(tmp_path.iterdir()))
    write_private(file, b"A=1\n")
    assert len(folder_when_written) == 2
    assert set(tmp_path.iterdir()) == {file, own_file}


def test_the_temporary_file_of_a_running_process_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, sync = tmp_path / ".env", os.fsync

    def write_meanwhile(number: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        write_private(file, b"A=other\n")
        sync(number)

    monkeypatch.setattr(os, "fsync", write_meanwhile)
    write_private(file, b"A=1\n")
    assert file.read_text() == "A=1\n"


def test_a_symbolic_link_to_a_missing_file_stays_a_link(tmp_path: Path):
    link = tmp_path / ".env"
    link.symlink_to("elsewhere/app.env")
    write_private(link, b"A=1\n")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere/app.env").read_text() == "A=1\n"


def test_a_file_that_can_not_be_written_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / ".env"
    assert why_not_writable(file) is None
    # Missing folders can be created, because ``tmp_path`` is writable.
    assert why_not_writable(tmp_path / "missing/folder/.env") is None
    file.touch()
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "belongs to another user; run this command as its owner" in str(why_not_writable(file))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"make {tmp_path} writable" in str(why_not_writable(file))


def test_the_mode_of_a_written_file_does_not_depend_on_the_umask(tmp_path: Path):
    former_mask = os.umask(0o077)
    try:
        write_private(tmp_path / "script", b"", mode=0o755)
        os.umask(0)
        write_private(tmp_path / "secret", b"")
    finally:
        os.umask(former_mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"script": 0o755, "secret": 0o600}
