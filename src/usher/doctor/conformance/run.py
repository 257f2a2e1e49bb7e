"""Checks conformance: finds course runs and a learner for the requests, sends the requests, removes
the learner, and returns the result."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from usher.contract import agents
from usher.doctor.conformance.checking import CheckedExpectation, ExpectationChecker
from usher.doctor.conformance.discovery import (
    ConformanceError,
    expecting_open_edx,
    find_backend,
    find_runs,
    find_token_owner,
    read_learner_account,
    read_modes,
)
from usher.doctor.conformance.expectations import load
from usher.doctor.conformance.learners import LearnerError, register, remove, remove_if_present
from usher.doctor.conformance.release import describe, find_release

_TIMEOUT = httpx.Timeout(30, connect=5)
_GIVE_WRITE = "give --write to create a test learner"
#: Value or actor that requests need → why it is missing, or the option that gives it.
_WHY_MISSING = {
    "client_id": "give --client",
    "client_secret": "give --client-secret-file",
    "redirect_uri": "give --redirect-uri",
    "learner": f"give --learner-token-file, or {_GIVE_WRITE}",
    "learner_email": f"give --learner-token-file, or {_GIVE_WRITE}",
    "learner_session": _GIVE_WRITE,
    "password": _GIVE_WRITE,
    "course": "the LMS shows no run that is open to enrollment",
    "course2": "the LMS shows fewer than two runs that are open to enrollment",
    "closed_course": "the LMS shows no run whose enrollment is over",
    "org": "the LMS shows no run",
    "expired": "give --expired-token-file",
    "code": "no earlier request obtained a code",
    "refresh_token": "no earlier request obtained a refresh token",
    "backend": "sign-in starts with no backend that Usher knows: run `usher doctor`",
}


@dataclass(frozen=True)
class Request:
    """The operator's options. Secrets are read from files and are never arguments."""

    lms_url: str
    token: str = field(repr=False)
    learner_token: str = field(default="", repr=False)
    expired_token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    redirect_uri: str = ""
    backend: str = ""
    write: bool = False


@dataclass
class Result:
    """outcomes: one for each expectation. release: a sentence about the LMS's release. left_over:
    names records that could not be removed; '' if all were removed."""

    lms_url: str
    outcomes: list[CheckedExpectation] = field(default_factory=list)
    release: str = ""
    left_over: str = ""

    def count(self, verdict: str) -> int:
        return sum(outcome.verdict == verdict for outcome in self.outcomes)

    @property
    def agrees(self) -> bool:
        return self.count("deviates") == 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "lms": self.lms_url,
            "release": self.release,
            "agree": self.count("agrees"),
            "deviate": self.count("deviates"),
            "unknown": self.count("unknown"),
            "left_over": self.left_over,
            "expectations": [_outcome_to_dict(outcome) for outcome in self.outcomes],
        }


def _outcome_to_dict(outcome: CheckedExpectation) -> dict[str, Any]:
    return {
        "id": outcome.expectation.id,
        "endpoint": outcome.expectation.endpoint,
        "says": outcome.expectation.says,
        "verdict": outcome.verdict,
        "reasons": list(outcome.reasons),
        "source": [f"recording {number:03}" for number in outcome.expectation.source],
    }


def check(request: Request) -> Result:
    """Sends all requests that may be sent. Raises ConformanceError if the LMS doesn't answer or
    refuses the service worker's token."""
    result = Result(request.lms_url)
    try:
        with _client(request) as client, _client(request) as session:
            with expecting_open_edx(request.lms_url):
                checker = _make_checker(client, request)
            with _test_learner(checker, session, request, result):
                result.outcomes = list(checker.check(load(), write=request.write))
            client.cookies.clear()
            release = find_release(client, request.token)
    except httpx.HTTPError as error:
        raise ConformanceError(
            f"{request.lms_url} stopped answering ({error or type(error).__name__}). "
            "Read its log and try again."
        ) from error
    result.release = describe(release, result.count("deviates"))
    return result


def _client(request: Request) -> httpx.Client:
    return httpx.Client(
        base_url=request.lms_url.rstrip("/"),
        timeout=_TIMEOUT,
        follow_redirects=False,
        headers=agents.CONFORMANCE,
    )


def _make_checker(client: httpx.Client, request: Request) -> ExpectationChecker:
    """Returns a checker with the values and tokens that the operator has given, and the values that
    the LMS shows to the service worker. Raises ConformanceError."""
    token_owner = find_token_owner(client, request.token)
    values = {
        "newcomer": f"nobody-{secrets.token_hex(4)}",  # a username that the LMS does not have
        "worker": token_owner,
        "lms": request.lms_url.rstrip("/"),
        "client_id": request.client_id,
        "client_secret": request.client_secret,
        "redirect_uri": request.redirect_uri,
        "backend": request.backend or find_backend(client),
        **find_runs(client, request.token, username=token_owner),
    }
    tokens = {
        "worker": request.token,
        "stranger": "nope",  # a token that the LMS does not know
        "learner": request.learner_token,
        "expired": request.expired_token,
    }
    if request.learner_token:
        values |= read_learner_account(client, request.learner_token)
    modes: frozenset[str] = frozenset()
    if "course" in values:
        modes = read_modes(client, request.token, values["course"])
    return ExpectationChecker(
        client,
        values={name: value for name, value in values.items() if value},
        tokens={actor: token for actor, token in tokens.items() if token},
        modes=modes,
        why_missing=dict(_WHY_MISSING),
    )


@contextmanager
def _test_learner(
    checker: ExpectationChecker, session: httpx.Client, request: Request, result: Result
) -> Iterator[None]:
    """With ``write``, registers a test learner for the block and removes the learner afterwards. A
    learner's token from the operator is never used to write."""
    if not request.write:
        yield
        return
    checker.tokens.pop("learner", None)
    try:
        learner = register(session, request.token)
    except LearnerError as error:
        for name in ("learner", "learner_email", "password"):
            checker.values.pop(name, None)
            checker.why_missing[name] = str(error)
        yield
        return
    checker.session = session
    checker.values |= {
        "learner": learner.username,
        "learner_email": learner.email,
        "password": learner.password,
    }
    try:
        yield
    finally:
        # ``newcomer`` exists if the LMS accepted a registration that it was expected to refuse.
        newcomer = checker.values["newcomer"]
        remaining = [
            remove(learner, checker.client, request.token),
            remove_if_present(newcomer, runs=[], client=checker.client, token=request.token),
        ]
        result.left_over = "; ".join(filter(None, remaining))
