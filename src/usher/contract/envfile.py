"""The ``.env`` editor: reads, checks and changes settings line by line, and keeps all other lines.

Two programs read a ``.env`` and they differ: docker compose (``env_file`` and ``${…}``) and
python-dotenv. Both take the last line of a key and both accept quotes. Compose refuses spaces
before ``=`` and expands ``$`` unless the value is in single quotes; python-dotenv expands ``${…}``
even in single quotes; the two treat backslashes inside quotes differently. So ``format_value``
writes only text that both of them, and a shell, read the same. Reading uses python-dotenv's own
parser, without expansion.
"""

import errno
import fcntl
import glob
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

#: The name of a setting; a value that needs no quotes; what may stand in front of a name; a value
#: with its quotes, without the comment behind it.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=?^!*{}\[\]-]*")
_PREFIX = re.compile(r"[^\S\r\n]*(?:export[^\S\r\n]+)?")
_VALUE = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|(?:(?!\s+#)[^\r\n])*", re.DOTALL)
#: A line that a shell reads as ``EnvFile`` does: a comment, or a value without characters that a
#: shell expands or that end a value in a shell.
_SAME_IN_A_SHELL = re.compile(
    r"[ \t]*(?:#.*|(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*="
    rf"(?:{_PLAIN.pattern}|'[^'\\]*'|\"[^\"$`\\]*\")[ \t]*(?:[ \t]#.*)?)?"
)
_CURLY_QUOTES = "“”‘’„«»"
PRIVATE_MODE = 0o600
#: What to do if the operating system refuses to replace a file, by the number of the error.
#: {folder}: the file's folder.
_REMEDIES = {
    errno.ENOSPC: "free space in {folder}",
    errno.EDQUOT: "free space in {folder}",
    errno.EACCES: "run this command as its owner, or make {folder} writable",
    errno.EPERM: "run this command as its owner, and make the file and {folder} writable",
    errno.EROFS: "mount the file system of {folder} writable",
    errno.EBUSY: "it is mounted as a single file; mount {folder} in its place",
}


class EnvFileError(ValueError):
    """The file can't be read or the value can't be written; the message says which and why."""


class FileNotWritten(OSError):
    """A file can't be written and has its former content. The message names the file, the cause and
    what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "").format(folder=path.parent)
        cause = error.strerror or str(error)
        super().__init__(f"{path} can't be written: {cause}" + (f"; {remedy}" if remedy else ""))
        self.errno = error.errno


@dataclass(frozen=True)
class Problem:
    """A line that at least one program reads differently than a person would. ``message`` contains
    no values of settings.

    line: its number, from 1. kind: ``duplicate``, ``name``, ``malformed``, ``spaces`` or
    ``quotes``. serious: whether a setting is lost or wrong for the programs that Usher supports.
    """

    line: int
    kind: str
    key: str
    message: str
    serious: bool

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass(frozen=True)
class _Line:
    """One statement of the file. blank: the blank lines in front of it. text: its own characters,
    with the line break. key: None for a comment and for a malformed line. value: None
    for these, and for a key without ``=``."""

    number: int
    blank: str
    text: str = field(repr=False)
    key: str | None
    value: str | None = field(repr=False)
    error: bool

    @classmethod
    def of(cls, binding: Binding) -> "_Line":
        """A line from a binding, as python-dotenv's parser calls a statement."""
        original = binding.original.string
        text = original.lstrip("\r\n")
        blank = original[: len(original) - len(text)]
        # Blank lines in front may hold spaces: the statement starts after the last of these lines.
        if binding.key is not None and (gap := re.match(r"(?:[^\S\r\n]*(?:\r\n|\n|\r))+", text)):
            blank, text = blank + gap.group(), text[gap.end() :]
        return cls(
            number=binding.original.line + len(re.findall(r"\r\n|\n|\r", blank)),
            blank=blank,
            text=text,
            key=binding.key,
            value=binding.value,
            error=binding.error,
        )


class EnvFile:
    """The text of a ``.env`` and its settings. Immutable: every edit returns a new one."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._byte_order_mark = "\ufeff" if text.startswith("\ufeff") else ""
        stream = io.StringIO(text.removeprefix(self._byte_order_mark), newline="")
        self._lines = [_Line.of(binding) for binding in parse_stream(stream)]

    @classmethod
    def read(cls, path: Path) -> "EnvFile":
        """The file at ``path``; an empty ``EnvFile`` when there is no file. Raises EnvFileError."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls()
        except IsADirectoryError as error:
            raise EnvFileError(
                f"{path} is a folder; docker makes one where it finds no file to mount. Remove the "
                "folder, or name the right file"
            ) from error
        except OSError as error:
            raise EnvFileError(f"{path} can't be read: {error.strerror}") from error
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise EnvFileError(
                f"{path}, line {line}: not UTF-8 text; save the file as UTF-8"
            ) from error
        if "\x00" in text:  # as in a file in UTF-16; no environment variable can hold it
            line = text[: text.index("\x00")].count("\n") + 1
            raise EnvFileError(f"{path}, line {line}: a NUL character; save the file as UTF-8")
        return cls(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvFile) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def values(self) -> dict[str, str]:
        """Key → value. If several lines set a key, the last one counts. Keys without ``=`` are left
        out."""
        last = {line.key: line.value for line in self._lines if line.key}
        return {key: value for key, value in last.items() if key and value is not None}

    def values_for_process(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The settings that a process with this ``environment`` takes from this file, even if the
        environment has other values: all, except for empty values of settings that the environment
        has already."""
        return {
            key: value for key, value in self.values().items() if value or key not in environment
        }

    def get(self, key: str) -> str | None:
        return self.values().get(key)

    @property
    def is_same_in_a_shell(self) -> bool:
        """Whether a shell that sources the file, with ``.``, gets the same settings."""
        lines = self.text.split("\n")
        return all(_SAME_IN_A_SHELL.fullmatch(line) for line in lines) and not self._byte_order_mark

    def line_of(self, key: str) -> int | None:
        """The number of the line that counts for ``key``, the last one that sets it; None if no
        line does."""
        return next((line.number for line in reversed(self._lines) if line.key == key), None)

    def with_values(self, values: Mapping[str, str]) -> "EnvFile":
        """The same file with these keys set: changed in place if present, else added at the end.

        Comments, other lines, line ends and a leading ``export`` stay. Raises EnvFileError for a
        key that is not a valid name, and for a value that not every program would read the same.
        """
        result = self
        for key, value in values.items():
            if result.get(key) != value:
                result = result._set(key, format_value(key, value))
        # If a quote is left open further up, the new line closes it, and the lines between them
        # become part of its value.
        if result.values() != {**self.values(), **values}:
            raise EnvFileError(f"a quote is left open: {self._first_malformed()}; close it first")
        return result

    def without(self, keys: Iterable[str]) -> "EnvFile":
        """The same file without any line that sets one of these keys."""
        removed_keys = frozenset(keys)
        return EnvFile(
            self._byte_order_mark
            + "".join(
                line.blank if line.key in removed_keys else line.blank + line.text
                for line in self._lines
            )
        )

    def restored(self, keys: Iterable[str], former: "EnvFile") -> "EnvFile":
        """The same file with these keys as they were in ``former``. Changes of other keys stay."""
        keys = tuple(keys)
        # If nothing else was changed, the former file also has these lines at their former places.
        if self.without(keys).text.rstrip() == former.without(keys).text.rstrip():
            return former
        former_values = {key: value for key, value in former.values().items() if key in keys}
        return self.without(set(keys) - set(former_values)).with_values(former_values)

    def problems(self) -> list[Problem]:
        """All problems, in the order of their lines."""
        return sorted(
            [problem for line in self._lines for problem in _problems_of(line)]
            + list(self._duplicates()),
            key=lambda problem: problem.line,
        )

    def _set(self, key: str, value: str) -> "EnvFile":
        """The file with this value in the last line of ``key``, or in a new line at the end."""
        for index in range(len(self._lines) - 1, -1, -1):
            if self._lines[index].key == key:
                return self._replace(index, key, value)
        newline = "\r\n" if "\r\n" in self.text else "\n"
        gap = "" if not self.text or self.text.endswith(("\n", "\r")) else newline
        return EnvFile(f"{self.text}{gap}{key}={value}{newline}")

    def _replace(self, index: int, key: str, value: str) -> "EnvFile":
        """The file with another value in the line at ``index``. The text in front of the key and
        the comment behind the value stay; without a value, the comment is left out."""
        line = self._lines[index]
        prefix = _match(_PREFIX, line.text)
        # Without a value, the first ``=`` is in a comment, or there is none.
        rest = line.text[len(prefix) :].partition("=")[2].lstrip(" \t")
        tail = rest[len(_match(_VALUE, rest)) :] if line.value is not None else ""
        if not tail.strip():  # no comment: keeps only the line break
            tail = line.text[len(line.text.rstrip("\r\n")) :]
        parts = [part.blank + part.text for part in self._lines]
        parts[index] = f"{line.blank}{prefix}{key}={value}{tail}"
        return EnvFile(self._byte_order_mark + "".join(parts))

    def _first_malformed(self) -> str:
        """The first malformed line, for a message; '' if there is none."""
        return next(
            (str(problem) for problem in self.problems() if problem.kind == "malformed"), ""
        )

    def _duplicates(self) -> Iterator[Problem]:
        """A problem for each line whose key is set again further down."""
        earlier_lines: dict[str, _Line] = {}
        for line in self._lines:
            if line.key is None:
                continue
            if earlier := earlier_lines.get(line.key):
                has_same_value = earlier.value == line.value
                effect = (
                    ", to the same value"
                    if has_same_value
                    else "; the later value counts, so remove one of the lines"
                )
                message = f"{line.key} is set again in line {line.number}{effect}"
                yield Problem(
                    earlier.number, "duplicate", line.key, message, serious=not has_same_value
                )
            earlier_lines[line.key] = line


def format_value(key: str, value: str) -> str:
    """``value`` as it is written after ``KEY=``, quoted if needed, so that every program reads the
    same text.

    Raises EnvFileError when that is impossible. The message names the key and never the value.
    """
    if not _NAME.fullmatch(key):
        raise EnvFileError(f"{key!r} is not a name for a setting: letters, digits and _ only")
    if _PLAIN.fullmatch(value):
        return value
    if any(char < " " or char == "\x7f" or char in "\x85\u2028\u2029" for char in value):
        raise EnvFileError(f"the value of {key} holds a line break or another control character")
    if "\\" in value:
        raise EnvFileError(f"the value of {key} holds a backslash; readers of .env differ on that")
    if "${" in value:
        raise EnvFileError(f"the value of {key} holds '${{', which would be expanded")
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value and "$" not in value and "`" not in value:
        return f'"{value}"'
    raise EnvFileError(
        f'the value of {key} holds an apostrophe together with ", $ or a backtick; readers of .env '
        "differ on that, so use another value"
    )


def update(path: Path, values: Mapping[str, str], *, backup: Path | None = None) -> bool:
    """Sets keys in the file at ``path``, which is created if absent. Returns False if the keys had
    these values already. backup: as in ``write``. Raises EnvFileError."""
    return write(path, EnvFile.read(path).with_values(values), backup=backup)


def write(path: Path, content: EnvFile, *, backup: Path | None = None) -> bool:
    """Replaces the file at ``path`` with ``content``, as ``write_private`` does. Returns False if
    nothing had to be written.

    backup: file that gets the former content, mode 0600, unless it exists already.
    """
    former = path.read_bytes() if path.exists() else None
    if backup is not None and former is not None and not backup.exists():
        write_private(backup, former)
    data = content.text.encode()
    if former == data and path.stat().st_mode & 0o777 == PRIVATE_MODE:
        return False
    write_private(path, data)
    return True


def write_private(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Replaces the file at ``path`` in one step: other processes see the old file or the new one,
    never a part. A symbolic link is followed. The new file has mode 0600 before anything is
    written, and ``mode`` afterwards. Raises FileNotWritten.

    Temporary files of processes that were killed while they wrote the same file are deleted.
    """
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _delete_leftovers(path)  # first, because they may fill the disk
        handle, temporary = _new_temporary_file(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                _keep_owner(file.fileno(), path)
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileNotWritten(path, error) from error


def remove_private(path: Path) -> None:
    """Deletes a file that ``write_private`` wrote, if there is one, and the temporary files of
    processes that were killed while they wrote it."""
    path.unlink(missing_ok=True)
    _delete_leftovers(path)


def why_not_writable(path: Path) -> FileNotWritten | None:
    """Why this user can't, or should not, replace the file, as far as it is known before the
    attempt; None if nothing speaks against it."""
    path = Path(os.path.realpath(path))
    folder = next(folder for folder in path.parents if folder.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        return FileNotWritten(path, OSError(number, os.strerror(number)))
    if os.geteuid() != 0 and path.exists() and path.stat().st_uid != os.geteuid():
        # The new file would belong to this user, and its owner could not read it any more.
        return FileNotWritten(path, PermissionError(errno.EPERM, "it belongs to another user"))
    return None


def _new_temporary_file(path: Path) -> tuple[int, Path]:
    """Makes an empty file, mode 0600, next to ``path``. Returns its descriptor and its path. The
    descriptor has a lock: as long as it is open, no other process takes the file for a leftover."""
    while True:
        # mkstemp makes the file with mode 0600.
        handle, name = tempfile.mkstemp(prefix=_temporary_prefix(path), dir=path.parent)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # deleted by another process before it was locked


def _delete_leftovers(path: Path) -> None:
    """Deletes the temporary files of processes that were killed while they wrote ``path``."""
    for leftover in path.parent.glob(glob.escape(_temporary_prefix(path)) + "*"):
        with suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
            leftover.unlink()


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}.usher-"


def write_exports(path: Path, values: Mapping[str, str]) -> None:
    """Writes the variables as commands of a shell, which ``. path`` runs. Only the owner may read
    the file."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(values.items())]
    write_private(path, "".join(lines).encode())


def _keep_owner(handle: int, path: Path) -> None:
    """Gives the open file the owner of ``path`` when root replaces it: the application must still
    be able to read it."""
    if os.geteuid() == 0 and path.exists():
        owner = path.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _match(pattern: re.Pattern[str], text: str) -> str:
    """The part of ``text``, from its start, that matches; '' if nothing does."""
    match = pattern.match(text)
    return match.group() if match else ""


def _problems_of(line: _Line) -> Iterator[Problem]:
    """The problems that this line has by itself."""
    number, key = line.number, line.key or ""
    if line.error:
        yield Problem(number, "malformed", key, _why_malformed(line.text), serious=True)
    if line.key is None:
        return
    name, equals, value_text = line.text.partition("=")
    if not _NAME.fullmatch(key):
        yield Problem(number, "name", key, f"{key!r} is not a name for a setting", serious=True)
    elif not equals:
        message = f"{key} has no '=', so it is taken from the shell that starts the application"
        yield Problem(number, "malformed", key, message, serious=True)
    if equals and (name != name.rstrip() or value_text[:1] in (" ", "\t")):
        message = f"{key} has spaces around '=', which docker compose refuses or other readers keep"
        yield Problem(number, "spaces", key, message, serious=True)
    value = value_text.strip()
    if value.startswith(tuple(_CURLY_QUOTES)):
        message = f"{key} is in typographic quotes, which become part of the value"
        yield Problem(number, "quotes", key, message, serious=True)
    elif value.startswith(("'", '"')):
        message = f"{key} is in quotes; 'docker run --env-file' makes them part of the value"
        yield Problem(number, "quotes", key, message, serious=False)


def _why_malformed(text: str) -> str:
    name, equals, value = text.strip().partition("=")
    if equals and value.strip().startswith(("'", '"')):
        return f"{name.strip()} starts with a quote that is not closed, or has text behind it"
    return "neither KEY=value nor a comment"
