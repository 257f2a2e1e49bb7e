"""Checks conformance: finds course runs and a learner for the requests, sends the requests, removes
the learner, and returns the result."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from usher.contract import agents
from usher.doctor.conformance.asking import CheckedExpectation, Conversation
from usher.doctor.conformance.discovery import (
    ConformanceError,
    account_of,
    backend_in_use,
    find_runs,
    modes,
    worker_name,
)
from usher.doctor.conformance.expectations import load
from usher.doctor.conformance.learners import LearnerError, register, remove, remove_where_there
from usher.doctor.conformance.release import describe, seen_release

_TIMEOUT = httpx.Timeout(30, connect=5)
_NEEDS_LEARNER = "give --write to create a test learner"
_WHY_MISSING = {
    "client_id": "give --client",
    "client_secret": "give --client-secret-file",
    "redirect_uri": "give --redirect-uri",
    "learner": f"give --learner-token-file, or {_NEEDS_LEARNER}",
    "learner_email": f"give --learner-token-file, or {_NEEDS_LEARNER}",
    "learner_session": _NEEDS_LEARNER,
    "password": _NEEDS_LEARNER,
    "course": "the LMS shows no run that is open to enrollment",
    "course2": "the LMS shows fewer than two runs that are open to enrollment",
    "closed_course": "the LMS shows no run whose enrollment is over",
    "org": "the LMS shows no run",
    "ended": "give --expired-token-file",
    "code": "no code was given before",
    "refresh_token": "no refresh token was given before",
    "backend": "sign-in does not start with any backend that Usher knows: see usher doctor",
}


@dataclass(frozen=True)
class Request:
    """The operator's options. Secrets are read from files and are never arguments."""

    lms_url: str
    token: str = field(repr=False)
    learner_token: str = field(default="", repr=False)
    ended_token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    redirect_uri: str = ""
    backend: str = ""
    write: bool = False


@dataclass
class Result:
    """outcomes: one for each expectation. release: a sentence. left_over: a text about records that
    could not be removed."""

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
            conversation = _conversation(client, request)
            with _learner(conversation, session, request, result):
                result.outcomes = list(conversation.ask(load(), write=request.write))
            client.cookies.clear()
            seen = seen_release(client, request.token)
    except httpx.HTTPError as error:
        raise ConformanceError(
            f"{request.lms_url} stopped answering ({error or type(error).__name__}). "
            "Read its log and try again."
        ) from error
    result.release = describe(seen, result.count("deviates"))
    return result


def _client(request: Request) -> httpx.Client:
    return httpx.Client(
        base_url=request.lms_url.rstrip("/"),
        timeout=_TIMEOUT,
        follow_redirects=False,
        headers=agents.CONFORMANCE,
    )


def _conversation(client: httpx.Client, request: Request) -> Conversation:
    worker = worker_name(client, request.token)
    values = {
        "newcomer": f"nobody-{secrets.token_hex(4)}",
        "worker": worker,
        "lms": request.lms_url.rstrip("/"),
        "client_id": request.client_id,
        "client_secret": request.client_secret,
        "redirect_uri": request.redirect_uri,
        "backend": request.backend or backend_in_use(client),
        **find_runs(client, request.token, worker),
    }
    tokens = {
        "worker": request.token,
        "stranger": "nope",
        "learner": request.learner_token,
        "ended": request.ended_token,
    }
    if request.learner_token:
        values |= account_of(client, request.learner_token)
    return Conversation(
        client,
        values={name: value for name, value in values.items() if value},
        tokens={actor: token for actor, token in tokens.items() if token},
        modes=modes(client, request.token, values["course"]) if "course" in values else frozenset(),
        why_missing=dict(_WHY_MISSING),
    )


@contextmanager
def _learner(
    conversation: Conversation, session: httpx.Client, request: Request, result: Result
) -> Iterator[None]:
    """With ``write``, registers a test learner for the block and removes the learner afterwards. A
    learner's token from the operator is never used to write."""
    if not request.write:
        yield
        return
    conversation.tokens.pop("learner", None)
    try:
        learner = register(session, request.token)
    except LearnerError as error:
        for name in ("learner", "learner_email", "password"):
            conversation.values.pop(name, None)
            conversation.why_missing[name] = str(error)
        yield
        return
    conversation.session = session
    conversation.values |= {
        "learner": learner.username,
        "learner_email": learner.email,
        "password": learner.password,
    }
    try:
        yield
    finally:
        # ``newcomer`` exists if the LMS accepted a registration that it was expected to refuse.
        newcomer = conversation.values["newcomer"]
        remaining = [
            remove(learner, conversation.client, request.token),
            remove_where_there(newcomer, [], conversation.client, request.token),
        ]
        result.left_over = "; ".join(filter(None, remaining))
