"""What an application tells doctor of itself (``usher.application.health.facts``).

JSON, one object, everything optional: an application without Usher tells less. Never a secret:
fingerprints (``contract.fingerprints``) stand for them.
"""

from typing import TypedDict

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
    """Rows of one kind. due: to be worked on now. overdue_seconds: how long the oldest of them has
    been waiting. missing: keys of runs that the LMS does not show."""

    due: int
    overdue_seconds: float
    parked: int
    missing: list[str]
    errors: list[RowError]


class EnrollmentSample(TypedDict, total=False):
    """An enrollment that the LMS should have in the same way."""

    username: str
    course_key: str
    mode: str
    is_active: bool


class Engine(TypedDict, total=False):
    """overdue_seconds: how long the oldest due row of any kind has been waiting. broker_error: ''
    when it answers or none is used. breaker: ``closed`` or ``open``; breaker_reason: why.
    worker_seen_seconds: since a worker was last alive, None when none ever was;
    worker_late_seconds: after how many it counts as stopped."""

    overdue_seconds: float
    broker_error: str
    breaker: str
    breaker_reason: str
    worker_seen_seconds: float | None
    worker_late_seconds: int


class Celery(TypedDict, total=False):
    """workers: how many answer. missing_tasks: Usher's, which none of them knows. is_scheduled:
    beat starts the sweep. error: why the broker could not be asked."""

    workers: int
    missing_tasks: list[str]
    is_scheduled: bool
    error: str


class Unfinished(TypedDict, total=False):
    """Learners who signed up and have no username for the LMS yet. sample: one's e-mail."""

    count: int
    sample: str


class ApplicationReport(TypedDict, total=False):
    """settings: the running process's values by name; fingerprints: the same for secrets.
    problems: sentences about malformed settings. scopes: those its provider knows.
    name_clashes: learners whose LMS username is, or was, another's. read: names of the integration
    that its settings have a value for; environment: those in the process's environment.
    redirect_schemes: those that its provider redirects to. signs_in_at_gateway: people sign in at
    an API gateway in front of it. learner_runs: by LMS username, every run with an enrollment of
    any state here. inactive_accounts: LMS usernames that are to be inactive. deactivated_in_lms:
    LMS usernames that are active here, and were seen inactive in the LMS. email_usernames: LMS
    usernames made from e-mail addresses. adopts_enrollments: those made in the LMS are recorded
    here."""

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
    enrollments: list[EnrollmentSample]
    malformed_runs: list[str]
    name_clashes: list[str]
    read: list[str]
    environment: list[str]
    redirect_schemes: list[str]
    signs_in_at_gateway: bool
    unfinished: Unfinished
    learner_runs: dict[str, list[str]]
    inactive_accounts: list[str]
    deactivated_in_lms: list[str]
    email_usernames: list[str]
    adopts_enrollments: bool
    celery: Celery
