"""What an application tells doctor of itself (``usher.application.health.facts``).

JSON, one object, everything optional: an application without Usher tells less. Never a secret:
fingerprints (``contract.fingerprints``) stand for them.
"""

from typing import Any, TypedDict

VERSION = 1


class Client(TypedDict, total=False):
    """A record of the application's own OAuth2 provider. secret_hasher: the algorithm that its
    secret is hashed with, ``pbkdf2_sha256`` …; '' for none."""

    name: str
    client_id: str
    redirect_uris: list[str]
    client_type: str
    grant_type: str
    skip_authorization: bool
    secret_hasher: str
    pkce_required: bool


class RowError(TypedDict, total=False):
    """Rows of one kind with the same error. sample: one of them, as people know it."""

    error_class: str
    error_code: str
    count: int
    parked: int
    attempts: int
    message: str
    sample: str


class Rows(TypedDict, total=False):
    """Rows of one kind. overdue_seconds: how long the oldest due row has been waiting.
    drifting: rows settled before whose LMS side was seen to differ. missing: keys of runs that the
    LMS does not show."""

    total: int
    settled: int
    parked: int
    due: int
    overdue_seconds: float
    drifting: int
    missing: list[str]
    errors: list[RowError]


class Engine(TypedDict, total=False):
    """heartbeat_seconds: since a worker last was alive, None when never. broker_error: '' when it
    answers or none is used. breaker: ``closed``, ``open`` or ``probing``; breaker_reason: why."""

    heartbeat_seconds: float | None
    broker_error: str
    breaker: str
    breaker_reason: str


class ApplicationReport(TypedDict, total=False):
    """settings: the running process's values by name; fingerprints: the same for secrets.
    problems: sentences about malformed settings. scopes: those its provider knows.
    name_clashes: learners whose LMS username is, or was, another's."""

    version: int
    time: str
    usher: str
    site_base_url: str
    settings: dict[str, str]
    fingerprints: dict[str, str]
    problems: list[str]
    clients: list[Client]
    scopes: list[str]
    rows: dict[str, Rows]
    engine: Engine
    malformed_runs: list[str]
    name_clashes: list[str]
    extra: dict[str, Any]
