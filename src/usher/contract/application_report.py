"""The application's report about itself to doctor (``usher.application.health.facts``).

One JSON object. Every field is optional, because an application without Usher reports less. It
contains fingerprints of secrets (``contract.fingerprints``), never the secrets.
"""

from typing import TypedDict

VERSION = 1
#: ``broker_error`` of a project that has a broker but has not installed Celery.
NO_CELERY = "Celery is not installed"


class Client(TypedDict, total=False):
    """An OAuth client of the application's own provider. secret_hasher: the algorithm that its
    secret is hashed with, such as ``pbkdf2_sha256``; '' for none."""

    name: str
    client_id: str
    redirect_uris: list[str]
    client_type: str
    grant_type: str
    skip_authorization: bool
    secret_hasher: str
    pkce_required: bool


class RowError(TypedDict, total=False):
    """Rows of one kind with the same error. refused: how many of them the LMS refuses, so that they
    are not retried. attempts: the highest number of attempts of one of them. sample: one of the
    rows, described for people, such as an e-mail address and a run."""

    error_class: str
    error_code: str
    count: int
    refused: int
    attempts: int
    message: str
    sample: str


class Rows(TypedDict, total=False):
    """Rows of one kind. due: how many are to be reconciled now; overdue_seconds: how long the
    oldest of these has been waiting. refused: how many the LMS refuses. missing: keys of runs that
    the LMS does not show."""

    due: int
    overdue_seconds: float
    refused: int
    missing: list[str]
    errors: list[RowError]


class EnrollmentSample(TypedDict, total=False):
    """An enrollment of the application, for doctor to compare with the LMS."""

    username: str
    course_key: str
    mode: str
    is_active: bool


class Engine(TypedDict, total=False):
    """The sync worker. overdue_seconds: how long the oldest due row of any kind has been waiting.
    broker_error: why Celery's broker does not answer; '' when the broker answers or none is used.
    breaker: ``closed`` or ``open``, the circuit breaker of the LMS; breaker_reason: why it is open.
    worker_seen_seconds: seconds since a worker was last seen alive, None when no worker was ever
    seen; worker_late_seconds: after how many seconds without a sign of life it counts as stopped; 0
    if it was told to stop."""

    overdue_seconds: float
    broker_error: str
    breaker: str
    breaker_reason: str
    worker_seen_seconds: float | None
    worker_late_seconds: int


class Celery(TypedDict, total=False):
    """workers: how many answer. missing_tasks: Usher's tasks that no worker has registered.
    is_scheduled: whether beat starts the sweep. error: why the workers could not be asked."""

    workers: int
    missing_tasks: list[str]
    is_scheduled: bool
    error: str


class Unfinished(TypedDict, total=False):
    """Learners who signed up and have no LMS username yet. sample: the e-mail address of one of
    these learners."""

    count: int
    sample: str


class ApplicationReport(TypedDict, total=False):
    """The whole report.

    time: when it was made, ISO, UTC; usher: version of Usher. settings: name → value in the running
    process; fingerprints: name → fingerprint of the settings that are secrets. problems: sentences
    about malformed settings. clients, scopes and redirect_schemes: what the application's OAuth2
    provider has. rows: kind → counts. malformed_runs: course keys that can't be read.
    name_clashes: learners' LMS usernames that are, or were, reserved for a different learner. read:
    names of the integration's settings that have a value; environment: which of these names come
    from the process's environment. signs_in_at_gateway: whether people sign in at an API gateway in
    front of the application. session_cookie: the name of its session cookie. learner_runs: LMS
    username → course keys of all the learner's enrollments, inactive ones too. inactive_accounts:
    LMS usernames whose account should be inactive. deactivated_in_lms: LMS usernames that are
    active here and were seen inactive in the LMS. email_usernames: LMS usernames made from e-mail
    addresses. adopts_enrollments: whether enrollments made in the LMS are recorded here.
    """

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
    session_cookie: str
    unfinished: Unfinished
    learner_runs: dict[str, list[str]]
    inactive_accounts: list[str]
    deactivated_in_lms: list[str]
    email_usernames: list[str]
    adopts_enrollments: bool
    celery: Celery
