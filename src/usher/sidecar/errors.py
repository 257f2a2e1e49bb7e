"""The errors of the sidecar.

SidecarError
├── AgentFailed       the agent didn't start, ended, or didn't answer in time
├── RequestFailed     the agent answered that this request can't be done
├── NotAsKnown        the application lacks tables or columns that the adapter needs
├── NotAnswering      the LMS did not answer as expected
└── NotTrusted        the LMS does not show known learners, so its answers are not used
"""

from __future__ import annotations

from http import HTTPStatus

from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    CircuitOpen,
    LmsError,
    NotTheLms,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
)


class SidecarError(Exception):
    pass


class AgentFailed(SidecarError):
    pass


class RequestFailed(SidecarError):
    """The agent answered with an error. code, message: of the agent's error. If the code is
    ``failed``, the message begins with the class of the application's exception."""

    def __init__(self, title: str, code: str, message: str) -> None:
        advice = _database_advice(message) if code == "failed" else ""
        super().__init__(
            f"{title} could not process a request of the sidecar: {_sentence(message)} {advice}"
            "The next run finds what is still due."
        )
        self.code = code


def _sentence(message: str) -> str:
    """Returns the message on one line, with a full stop at the end if it has no other mark."""
    text = " ".join(message.split())
    return text if text.endswith(("?", "!")) else text.rstrip(".") + "."


def _database_advice(message: str) -> str:
    """Returns advice for an error of the database, with a space at its end, or ''. message: the
    class of an exception, a colon and its text."""
    lower_message = " ".join(message.lower().split())
    for phrase, advice in _ADVICE_BY_PHRASE.items():
        if phrase in lower_message:
            return advice
    return _ADVICE_BY_EXCEPTION.get(message.partition(":")[0], "")


_LOCKED = "Another process keeps its database locked: run this again. "
_STARTING = "Its database is starting: run this again in a minute. "
_NO_CONNECTION_FREE = "Its database has no connection free: run this again later, or allow more. "
_CHECK_DATABASE_ADDRESS = "Check its setting of the database's address, user and password. "
#: Messages of SQLite and PostgreSQL → what to do. The first message that is found counts.
_ADVICE_BY_PHRASE = {
    "readonly database": "Its database can't be written to: check who owns its file and folder. ",
    "read-only transaction": "Its database takes no writes: is it a replica? Use the primary. ",
    "disk is full": "The disk of its database is full: free some space. ",
    "no space left": "The disk of its database is full: free some space. ",
    "disk i/o error": "The disk of its database is full or damaged: check it. ",
    "database is locked": _LOCKED,
    "lock timeout": _LOCKED,
    "deadlock detected": _LOCKED,
    "statement timeout": "Its database was too slow, or a table is locked: run this again later. ",
    "too many clients": _NO_CONNECTION_FREE,
    "too many connections": _NO_CONNECTION_FREE,
    "connection slots": _NO_CONNECTION_FREE,
    "system is starting up": _STARTING,
    "system is in recovery mode": _STARTING,
    "system is not yet accepting": _STARTING,
    "permission denied": "Its user of the database lacks this permission: grant it. ",
    "password authentication failed": _CHECK_DATABASE_ADDRESS,
    "not permitted to log in": _CHECK_DATABASE_ADDRESS,
    'fatal: database "': _CHECK_DATABASE_ADDRESS,
    'fatal: role "': _CHECK_DATABASE_ADDRESS,
    "resolve host": _CHECK_DATABASE_ADDRESS,
    "translate host": _CHECK_DATABASE_ADDRESS,
    "not a database": "The file of its database is damaged: restore it from a backup. ",
    "disk image is malformed": "The file of its database is damaged: restore it from a backup. ",
    "invalid page in block": "The files of its database are damaged: restore it from a backup. ",
    "unable to open database file": "The file of its database can't be opened: check its path. ",
    "no such table": "Its tables are older than its code: run its migrate command. ",
    "no such column": "Its tables are older than its code: run its migrate command. ",
}
#: Exceptions of Django's databases → what to do.
_ADVICE_BY_EXCEPTION = {
    "OperationalError": "Its database did not answer: start it. ",
    "InterfaceError": "Its database did not answer: start it. ",
    "ProgrammingError": "Its tables may be older than its code: run its migrate command. ",
}


class NotAsKnown(SidecarError):
    """The application lacks tables, columns or functions that the adapter needs. missing: their
    names."""

    def __init__(self, title: str, missing: list[str]) -> None:
        super().__init__(
            f"{title} is not as this version of Usher expects it: it has no {', '.join(missing)}. "
            "Nothing was read or changed. Upgrade openedx-usher, or report the release you run."
        )
        self.missing = missing


class NotAnswering(SidecarError):
    """The LMS did not answer as expected. The message says what to do."""

    def __init__(self, lms_url: str, error: LmsError) -> None:
        super().__init__(f"The LMS at {lms_url} could not be asked: {explain(error)}")


class NotTrusted(SidecarError):
    pass


# Advice that is appended to an error's message.
_RECONNECT = (
    "The service worker's token (OPENEDX_SERVICE_WORKER_API_TOKEN) has expired, was revoked or is "
    "another LMS's. Run `usher connect` to renew it."
)
_MAKE_STAFF = "Make the service worker staff in the LMS: run `usher connect`."
_CHECK_ADDRESS = "Check OPENEDX_API_BASE_URL, or name the LMS's address from here with --lms-url."
_CHECK_LMS_RUNS = "Is the LMS running, and is this its address from here? --lms-url names another."
_CHECK_RELEASE = (
    "Another server may answer at this address, or this release of Open edX differs: "
    "`usher doctor` finds out which."
)
_TRY_LATER = "Run this again later; a lower --concurrency sends the LMS fewer requests at a time."


def explain(error: LmsError) -> str:
    """Returns the message of an error that concerns all learners, with advice."""
    return f"{error.message.rstrip('. ')}. {_advice(error)}".rstrip()


def _advice(error: LmsError) -> str:
    """Returns what to do; '' if the message says it already, or nothing is known."""
    if isinstance(error, AccessRefused):
        if error.code == "service-worker-not-staff":
            return ""
        if error.status == HTTPStatus.FORBIDDEN:
            return _MAKE_STAFF
        return _RECONNECT
    if isinstance(error, NotTheLms):
        says_to_check_address = "OPENEDX_API_BASE_URL" in error.message
        return "" if says_to_check_address else _CHECK_ADDRESS
    if isinstance(error, BadAnswer):
        return _CHECK_RELEASE
    if isinstance(error, Throttled | CircuitOpen | TimedOut):
        return _TRY_LATER
    if isinstance(error, Unreachable | ServerFailed):
        return _CHECK_LMS_RUNS
    return ""
