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


#: Settings besides those of the connection, with their types; docs/reference/settings.md takes
#: the comment above each.
OPTIONS: dict[str, Callable[[str], Any]] = {
    # Redis, which workers on several machines share. Default: none.
    "REDIS_URL": str,
    # Your class of decisions, such as `shop.openedx.Adapter`; see "Add Usher to your own
    # application". Default: `usher.application.adapter.DefaultAdapter`.
    "USHER_ADAPTER": str,
    # Whether enrollments that were made in the LMS are recorded here. Default: true.
    "USHER_ADOPT_ENROLLMENTS": _flag,
    # Days for which audit events are kept. Default: 400.
    "USHER_AUDIT_DAYS": _integer,
    # Failed attempts recorded in a minute; more are counted only. Default: 30.
    "USHER_AUDIT_FAILURES_A_MINUTE": _integer,
    # Whether to use the batch API of `usher.lms` where the LMS has it. Default: true.
    "USHER_USE_BATCH_API": _flag,
    # Header in which a proxy passes the client's address, such as `X-Real-IP`. Default: none.
    "USHER_CLIENT_ADDRESS_HEADER": str,
    # Requests to the LMS at a time, of one worker. Default: 32.
    "USHER_CONCURRENCY": _integer,
    # Minutes between two mails about refusals to `MANAGERS`; 0 for none. Default: 60, and 0 while
    # `DEBUG` is on.
    "USHER_DIGEST_MINUTES": _integer,
    # Who wins when the LMS changed an enrollment: `application` or `lms`. Default: `application`.
    "USHER_ENROLLMENT_WINNER": str,
    # Who wins when the LMS's staff deactivated an account that is active here: with `lms` it stays
    # deactivated, with `application` it is activated again. Default: `lms`.
    "USHER_ACCOUNT_WINNER": str,
    # Celery queue for work that a learner waits for. Default: the queue of all other tasks.
    "USHER_INTERACTIVE_QUEUE": str,
    # Seconds after which a record claimed by a worker that is gone is free. Default: 60.
    "USHER_LEASE_SECONDS": _number,
    "USHER_METRICS_NETWORKS": str,
    "USHER_METRICS_TOKEN": str,
    # Requests a second that all workers together send to the LMS. Default: no limit.
    "USHER_REQUESTS_A_SECOND": _number,
    # Seconds for which a stopping worker waits for answers of the LMS. Default: 20.
    "USHER_STOP_SECONDS": _number,
    # Failed token requests of one client from one address in a minute before more are refused.
    # Default: 30.
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
