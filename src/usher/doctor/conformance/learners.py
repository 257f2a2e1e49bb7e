"""Registers a test learner by the public form, and removes the learner."""

import secrets
from dataclasses import dataclass, field

import httpx

from usher.contract.paths import LmsPath
from usher.contract.refusals import sentence_of
from usher.doctor.conformance.answers import Answer
from usher.doctor.conformance.checking import csrf_headers

_DEACTIVATE = "/api/user/v1/accounts/deactivate_logout/"


class LearnerError(Exception):
    """The LMS refused to create a test learner; the message has its answer."""


@dataclass(frozen=True)
class RegisteredLearner:
    """A test learner of the LMS, signed in by ``session``."""

    username: str
    email: str
    password: str = field(repr=False)
    session: httpx.Client

    def enrolled_runs(self) -> list[str]:
        answer = self.session.get(LmsPath.ENROLLMENT)
        if answer.status_code != httpx.codes.OK:
            return []
        return [row["course_details"]["course_id"] for row in answer.json() if row["is_active"]]


def register(session: httpx.Client, token: str) -> RegisteredLearner:
    """Registers a test learner with a password. Raises LearnerError if the LMS refuses.

    token: the service worker's. An LMS with a connected application accepts no other registration.
    """
    username = f"conformance-{secrets.token_hex(4)}"
    learner = RegisteredLearner(
        username, f"{username}@learners.example", secrets.token_urlsafe(16) + "aA1", session
    )
    answer = session.post(
        LmsPath.REGISTRATION,
        data={
            "username": username,
            "email": learner.email,
            "name": "Conformance Learner",
            "password": learner.password,
            "honor_code": "true",
            "terms_of_service": "true",
            "country": "US",
        },
        headers={"X-Access-Token": token},
    )
    if answer.status_code != httpx.codes.OK:
        raise LearnerError(
            f"the LMS didn't register a test learner: {answer.status_code} {_brief(answer)}"
        )
    return learner


def _brief(answer: httpx.Response) -> str:
    """Returns the answer's message on one line; the title of an HTML page."""
    body = Answer.of(answer).body
    is_page = isinstance(body, dict) and "title" in body
    return (str(body["title"]) if is_page else sentence_of(body))[:200]


def remove(learner: RegisteredLearner, worker: httpx.Client, token: str) -> str:
    """Unenrolls and deactivates the learner. Returns a text about the part that failed, or ''.

    The LMS's API can deactivate a learner, and can't delete one.
    """
    runs = learner.enrolled_runs()
    if _deactivate_as_learner(learner):
        return _unenroll_all(learner.username, runs, worker, token)
    return remove_as_worker(learner.username, runs, worker, token)


def remove_if_present(username: str, runs: list[str], worker: httpx.Client, token: str) -> str:
    """Like ``remove_as_worker``, but succeeds if the LMS has no such account."""
    worker.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    if worker.get(f"{LmsPath.ACCOUNTS}/{username}", headers=headers).status_code != 200:
        return ""
    return remove_as_worker(username, runs, worker, token)


def remove_as_worker(username: str, runs: list[str], worker: httpx.Client, token: str) -> str:
    """Unenrolls and deactivates with the service worker's token, through usher.lms if possible."""
    remaining = _unenroll_all(username, runs, worker, token)
    if _deactivate_as_worker(username, worker, token):
        return remaining
    return f"the account {username} is still active: deactivate it in the LMS admin"


def _unenroll_all(username: str, runs: list[str], worker: httpx.Client, token: str) -> str:
    remaining = [run for run in runs if not _unenroll(username, run, worker, token)]
    return f"{username} is still enrolled in {', '.join(remaining)}" if remaining else ""


def _unenroll(username: str, run: str, worker: httpx.Client, token: str) -> bool:
    """Unenrolls in the mode that is active, because the LMS refuses any other."""
    worker.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    enrollment = worker.get(f"{LmsPath.ENROLLMENT}/{username},{run}", headers=headers)
    mode = (
        enrollment.json()["mode"]
        if enrollment.status_code == 200 and enrollment.content
        else "audit"
    )
    worker.cookies.clear()
    answer = worker.post(
        LmsPath.ENROLLMENT,
        headers=headers,
        json={
            "user": username,
            "mode": mode,
            "is_active": False,
            "course_details": {"course_id": run},
        },
    )
    return answer.status_code == httpx.codes.OK


def _deactivate_as_learner(learner: RegisteredLearner) -> bool:
    answer = learner.session.post(
        _DEACTIVATE, data={"password": learner.password}, headers=csrf_headers(learner.session)
    )
    return answer.status_code == httpx.codes.NO_CONTENT


def _deactivate_as_worker(username: str, worker: httpx.Client, token: str) -> bool:
    worker.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    account = worker.get(f"{LmsPath.ACCOUNTS}/{username}", headers=headers)
    if account.status_code != httpx.codes.OK:
        return False
    item = {
        "id": "1",
        "username": username,
        "email": account.json().get("email", ""),
        "name": account.json().get("name", ""),
        "is_active": False,
    }
    worker.cookies.clear()
    answer = worker.post(LmsPath.USHER_ACCOUNTS, headers=headers, json={"items": [item]})
    if answer.status_code != httpx.codes.OK:
        return False
    results = answer.json().get("results") or [{}]
    return results[0].get("status") in ("updated", "exists")
