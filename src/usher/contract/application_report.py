"""The application's report about itself to doctor (``usher.application.health.facts``).

One JSON object. Every field is optional, because an application without Usher reports less. It
contains fingerprints of secrets (``contract.fingerprints``), never the secrets.
"""

from typing import TypedDict

VERSION = 1
#: ``broker_error`` of a project that has a broker but has not installed Celery.
NO_CELERY = "Celery is not installed"


class Client(TypedDict, total=False):
    """An OAuth client of the application's own OAuth2 provider. secret_hasher: the algorithm with
    which the client's secret is hashed, such as ``pbkdf2_sha256``; '' if it is not hashed."""

    name: str
    client_id: str
    redirect_uris: list[str]
    client_type: str
    grant_type: str
    skip_authorization: bool
    secret_hasher: str
    pkce_required: bool


class RowError(TypedDict, total=False):
    """Rows of one kind with the same error. count: how many. refused: how many of these the LMS
    refused, so that they are not retried. attempts: the most attempts that one of these rows had.
    sample: one of the rows, described for people, such as an e-mail address and a run."""

    error_class: str
    error_code: str
    count: int
    refused: int
    attempts: int
    message: str
    sample: str


class Rows(TypedDict, total=False):
    """Rows of one kind. due: how many are to be reconciled now. overdue_seconds: how long the
    oldest due row has been waiting. refused: how many the LMS refused. missing: keys of course runs
    that the LMS does not show."""

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
    """The sync worker."""

    #: How long the oldest due row of any kind has been waiting.
    overdue_seconds: float
    #: Why Celery's broker does not answer, or ``NO_CELERY``; '' if the broker answers or none is
    #: used.
    broker_error: str
    #: ``open`` if the LMS's circuit breaker stopped the last attempt of a row; else ``closed``.
    breaker: str
    #: Why the circuit breaker is open; '' if it is closed.
    breaker_reason: str
    #: Seconds since a worker was last seen alive; None if no worker was ever seen.
    worker_seen_seconds: float | None
    #: A worker that was not seen for this many seconds counts as stopped; 0 if it was told to stop.
    worker_late_seconds: int


class Celery(TypedDict, total=False):
    """Celery's workers. workers: how many answer. missing_tasks: Usher's tasks that no worker has
    registered. is_scheduled: whether Celery beat starts the sweep. error: why the workers could not
    be asked."""

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
    """The whole report."""

    version: int
    #: When the report was made, ISO, UTC.
    time: str
    #: The version of Usher.
    usher: str
    site_base_url: str
    #: Name of a setting → its value in the running process.
    settings: dict[str, str]
    #: Name of a secret setting → the fingerprint of its value.
    fingerprints: dict[str, str]
    #: Sentences about malformed settings.
    problems: list[str]
    #: OAuth clients of the application's own OAuth2 provider.
    clients: list[Client]
    #: Scopes of the application's OAuth2 provider.
    scopes: list[str]
    #: Kind → counts of its rows.
    rows: dict[str, Rows]
    engine: Engine
    enrollments: list[EnrollmentSample]
    #: Course keys that can't be parsed.
    malformed_runs: list[str]
    #: Learners' LMS usernames that are, or were, reserved for a different learner.
    name_clashes: list[str]
    #: Names of the integration's settings that have a value.
    read: list[str]
    #: Those of the names in ``read`` whose value comes from the process's environment.
    environment: list[str]
    #: The schemes that the application's OAuth2 provider accepts in redirect URIs.
    redirect_schemes: list[str]
    #: Whether people sign in at an API gateway in front of the application.
    signs_in_at_gateway: bool
    #: The name of the application's session cookie.
    session_cookie: str
    unfinished: Unfinished
    #: LMS username → course keys of all the learner's enrollments, inactive enrollments included.
    learner_runs: dict[str, list[str]]
    #: LMS usernames whose account should be inactive.
    inactive_accounts: list[str]
    #: LMS usernames of learners who are active in the application and were seen inactive in the
    #: LMS.
    deactivated_in_lms: list[str]
    #: LMS usernames made from e-mail addresses.
    email_usernames: list[str]
    #: Whether the application records enrollments that were created in the LMS.
    adopts_enrollments: bool
    celery: Celery
