"""The environment, and under it the ``.env`` file that ``usher connect`` writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import ALL_KEYS

_FALSE, _TRUE = {"0", "false", "no", "off"}, {"1", "true", "yes", "on"}


def _flag(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("write true or false")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("write a number") from None


#: What is read beside the names of the connection, and its type.
OPTIONS: dict[str, Callable[[str], Any]] = {
    "REDIS_URL": str,
    "USHER_ADAPTER": str,
    "USHER_AUDIT_DAYS": _integer,
    "USHER_AUDIT_FAILURES_A_MINUTE": _integer,
    "USHER_USE_BATCH_API": _flag,
    "USHER_CLIENT_ADDRESS_HEADER": str,
    "USHER_CONCURRENCY": _integer,
    "USHER_ENROLLMENT_WINNER": str,
    "USHER_INTERACTIVE_QUEUE": str,
    "USHER_LEASE_SECONDS": _number,
    "USHER_REQUESTS_A_SECOND": _number,
    "USHER_STOP_SECONDS": _number,
    "USHER_TOKEN_FAILURES_A_MINUTE": _integer,
}


def read(env_file: Path | None) -> dict[str, str]:
    """Names and values, those of the process before those of the file.

    Raises ImproperlyConfigured when the file is there and can't be read.
    """
    found: dict[str, str] = {}
    if env_file is not None:
        try:
            found = dict(EnvFile.read(env_file).values())
        except (EnvFileError, OSError) as error:
            raise ImproperlyConfigured(f"{env_file} can't be read: {error}") from error
    return found | dict(os.environ)


def settings(values: Mapping[str, str]) -> dict[str, Any]:
    """Settings that the environment has a value for. Raises ImproperlyConfigured, all at once."""
    found: dict[str, Any] = {key: values[key] for key in ALL_KEYS if values.get(key)}
    problems = []
    for name, kind in OPTIONS.items():
        if not values.get(name):
            continue
        try:
            found[name] = kind(values[name].strip())
        except ValueError as error:
            problems.append(f"{name} is {values[name]!r}: {error}")
    if problems:
        raise ImproperlyConfigured("; ".join(problems))
    return found
