"""Reads settings from the environment and from the ``.env`` file that ``usher connect`` writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import ALL_KEYS, ServiceEnv

_FALSE, _TRUE = {"0", "false", "no", "off"}, {"1", "true", "yes", "on"}


def _flag(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("write True or False")


def _whole_number(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or int(text) < minimum:
            raise ValueError(f"write a whole number, {minimum} or more")
        return int(text)

    return convert


def _positive(text: str) -> float:
    number = _not_negative(text)
    if number == 0:
        raise ValueError("write a number above 0")
    return number


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 10**9:  # False for inf and nan, too
        raise ValueError("write a number, 0 or more")
    return number


def _share(text: str) -> float:
    number = _not_negative(text)
    if number > 1:
        raise ValueError("write a number from 0 to 1")
    return number


def _winner(text: str) -> str:
    if text not in ("application", "lms"):
        raise ValueError("write application or lms")
    return text


def _header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError("write the name of one header, such as X-Real-IP")
    return text


def _redis(text: str) -> str:
    parts = urlsplit(text)
    try:
        is_address = bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port  # raises ValueError if the port is no number
    except ValueError:
        is_address = False
    if parts.scheme not in ("redis", "rediss", "unix") or not is_address:
        raise ValueError("write an address such as redis://localhost:6379/0")
    return text


#: Settings besides those of the connection: name → function that converts a text to the setting's
#: type. docs/reference/settings.md shows the comment above each setting.
OPTIONS: dict[str, Callable[[str], Any]] = {
    # Redis, which workers on several machines share. Default: none.
    "REDIS_URL": _redis,
    # Whose state is kept if the LMS's staff deactivated an account that is active in the
    # application: with `lms` it stays deactivated, with `application` it is activated again.
    # Default: `lms`.
    "USHER_ACCOUNT_WINNER": _winner,
    # Your adapter class, such as `shop.openedx.Adapter`; see "Add Usher to your own application".
    # Default: `usher.application.adapter.DefaultAdapter`.
    "USHER_ADAPTER": str,
    # Whether enrollments that were created in the LMS are recorded in the application. Default:
    # true.
    "USHER_ADOPT_ENROLLMENTS": _flag,
    # Days for which audit events are kept; 0 for ever. Default: 400.
    "USHER_AUDIT_DAYS": _whole_number(0),
    # The most failures of one event from one address that the audit log records in a minute; more
    # failures are only counted. Default: 30.
    "USHER_AUDIT_FAILURES_A_MINUTE": _whole_number(0),
    # Header in which a proxy passes the client's address, such as `X-Real-IP`. Default: none.
    "USHER_CLIENT_ADDRESS_HEADER": _header,
    # Concurrent requests of one worker to the LMS. Default: 32.
    "USHER_CONCURRENCY": _whole_number(1),
    # Minutes between two mails to `MANAGERS` about refused records, if the console is installed.
    # With 0, or without the console, refusals are mailed as they happen, at most one mail in 15
    # minutes. Default: 60, and 0 while `DEBUG` is on.
    "USHER_DIGEST_MINUTES": _whole_number(0),
    # Whose state is kept if a recorded enrollment was changed in the LMS: `application` or `lms`.
    # Default: `application`.
    "USHER_ENROLLMENT_WINNER": _winner,
    # Celery queue for work that a learner waits for. Default: the queue of all other tasks.
    "USHER_INTERACTIVE_QUEUE": str,
    # Seconds until another worker may take the records of a worker that was killed. Default: 60.
    "USHER_LEASE_SECONDS": _positive,
    # Whether tests that `manage.py test` runs may send requests to the LMS. Default: false.
    "USHER_LMS_TRAFFIC_IN_TESTS": _flag,
    # Networks that may read `/metrics`, such as `10.0.0.0/8, 127.0.0.1`. Default: none.
    "USHER_METRICS_NETWORKS": str,
    # Bearer token for `/metrics`. Default: none.
    "USHER_METRICS_TOKEN": str,
    # The number of known objects that may be missing in the LMS. If more are missing, and also more
    # than the share `USHER_MISSING_SHARE`, nothing is changed until an operator runs a command with
    # `--accept-missing`. Default: 20.
    "USHER_MISSING_COUNT": _whole_number(0),
    # The share of known objects that may be missing in the LMS, from 0 to 1; see
    # `USHER_MISSING_COUNT`. Default: 0.05.
    "USHER_MISSING_SHARE": _share,
    # Requests a second that all workers together send to the LMS; `0` for no limit. Default: `0`.
    "USHER_REQUESTS_A_SECOND": _not_negative,
    # Path or name of the page that a browser is sent to after it signed out. Default: `/`.
    "USHER_SIGNED_OUT_URL": str,
    # Seconds for which a stopping worker waits for answers of the LMS. Default: 20.
    "USHER_STOP_SECONDS": _not_negative,
    # The most failed token requests of one client from one address in a minute; after that, its
    # token requests are refused. Default: 30.
    "USHER_TOKEN_FAILURES_A_MINUTE": _whole_number(1),
    # Whether to use the batch API of `usher.lms` where the LMS has it. Default: true.
    "USHER_USE_BATCH_API": _flag,
}


#: Environment variables whose names begin like those of settings. ``usher dev`` and the Tutor
#: plugin read them.
_OTHER_NAMES = {
    *(value for name, value in vars(ServiceEnv).items() if name.isupper()),
    "USHER_EDITION",
    "USHER_ENV_FILE",
    "USHER_BACKENDS",
}


def read(env_file: Path | None) -> dict[str, str]:
    """Name → value, from the process's environment and, for names that it lacks, from the file.

    env_file: None for no file. Raises ImproperlyConfigured if the file exists and can't be read.
    """
    variables: dict[str, str] = {}
    if env_file is not None:
        try:
            variables = dict(EnvFile.read(env_file).values())
        except (EnvFileError, OSError) as error:
            raise ImproperlyConfigured(f"{error}.") from error
    return variables | dict(os.environ)


def settings(values: Mapping[str, str]) -> dict[str, Any]:
    """The settings that have a value: those of the connection as text, those in ``OPTIONS``
    converted to their types. A malformed value stays a text: an exception here would end
    ``manage.py check`` before it names the value."""
    result: dict[str, Any] = {key: values[key] for key in ALL_KEYS if values.get(key)}
    for name, convert in OPTIONS.items():
        if not values.get(name):
            continue
        try:
            result[name] = convert(values[name].strip())
        except ValueError:
            result[name] = values[name]
    return result


def malformed(source: Any) -> Iterator[str]:
    """A sentence for each value in ``source``, Django's settings, that has a wrong type; it says
    what to write."""
    for name, convert in OPTIONS.items():
        value = getattr(source, name, None)
        if convert is str or value is None or value == "":
            continue
        if convert is _flag:
            # Any text, even "no", would count as True.
            if value not in (True, False):
                yield f"{name} is {value!r}: write True or False"
            continue
        try:
            convert(str(value).strip())
        except ValueError as error:
            yield f"{name} is {_printable(value)}: {error}"


def _printable(value: Any) -> str:
    """The value for a message; addresses may contain a password, which must not be shown."""
    return "not usable" if "@" in str(value) else repr(value)


def misspelt(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of ``names`` that look like misspelt settings of Usher. Yields pairs: the name, and the
    most similar name of a setting."""
    known_names = {*OPTIONS, *ALL_KEYS, *_OTHER_NAMES}
    for name in names:
        if name.startswith(("USHER_", "OPENEDX_")) and name not in known_names:
            for similar in get_close_matches(name, sorted(known_names), n=1, cutoff=0.9):
                yield name, similar
