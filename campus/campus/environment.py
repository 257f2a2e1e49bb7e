"""Reads campus's settings: the process's environment first, then the ``.env`` file."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values

CAMPUS_DIR = Path(__file__).resolve().parent.parent
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class Environment:
    """Settings by name, as strings. The process's environment overrides the file."""

    def __init__(self) -> None:
        self.path = Path(os.environ.get("CAMPUS_ENV_FILE", CAMPUS_DIR / ".env"))
        file_values = dotenv_values(self.path, interpolate=False) if self.path.is_file() else {}
        # dotenv's value of a line with a name alone is None.
        self.values = {key: value or "" for key, value in file_values.items()} | dict(os.environ)

    def text(self, name: str, default: str = "") -> str:
        """The value, without surrounding blanks; ``default`` when it is absent or empty."""
        return self.values.get(name, "").strip() or default

    def flag(self, name: str, default: bool = False) -> bool:
        """The value as a boolean; ``default`` when it is absent or empty. Raises
        ImproperlyConfigured for other words than true, false and their synonyms."""
        value = self.text(name, str(default)).lower()
        if value not in _TRUE | _FALSE:
            raise ImproperlyConfigured(f"{name} is {value!r}: write true or false.")
        return value in _TRUE

    def integer(self, name: str, default: int) -> int:
        """The value as a whole number; ``default`` when it is absent or empty. Raises
        ImproperlyConfigured for anything else."""
        value = self.text(name, str(default))
        try:
            return int(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} is {value!r}: write a whole number.") from error

    def number(self, name: str, default: float) -> float:
        """The value as a number; ``default`` when it is absent or empty. Raises
        ImproperlyConfigured for anything else."""
        value = self.text(name, str(default))
        try:
            return float(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} is {value!r}: write a number.") from error

    def words(self, name: str) -> list[str]:
        """The words of a comma-separated value."""
        return [word.strip() for word in self.text(name).split(",") if word.strip()]
