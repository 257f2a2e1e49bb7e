"""Types of options that several ``usher`` commands share. A value that can't be used ends the
command as a wrong option, before it has begun."""

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click


class _Text(click.ParamType):
    """A text that is passed to the command unchanged after ``check`` has raised no ValueError."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            self.check(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return value

    def check(self, value: str) -> None:
        raise NotImplementedError


class _CommandLine(_Text):
    def check(self, value: str) -> None:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"a shell can't read this command: {error}".lower()) from error


class _PathText(_Text):
    def check(self, value: str) -> None:
        try:
            # Raises the errors of a path that can't be used. The file itself may be missing.
            Path(value).expanduser().resolve().exists()
        except RuntimeError as error:
            raise ValueError("~ names no user's folder, or links lead in a circle") from error
        except OSError as error:
            raise ValueError(error.strerror) from error


class _PathOrAddress(_PathText):
    def check(self, value: str) -> None:
        try:
            scheme = urlsplit(value).scheme
        except ValueError as error:
            raise ValueError("write an address such as http://example.org:8013") from error
        if scheme not in ("http", "https"):
            super().check(value)


class _Address(_Text):
    """An address of a server; '' for none."""

    def check(self, value: str) -> None:
        try:
            url = urlsplit(value)
            is_address = url.scheme in ("http", "https") and bool(url.hostname)
            _ = url.port  # raises ValueError if it is no number
        except ValueError:
            is_address = False
        if value and not is_address:
            raise ValueError("write an address such as http://example.org:8000")


#: A command that runs manage.py; the path of a file or folder; an application's folder or address;
#: an address.
COMMAND_LINE, PATH, PATH_OR_ADDRESS = _CommandLine(), _PathText(), _PathOrAddress()
ADDRESS = _Address()
