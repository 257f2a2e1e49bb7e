"""Throw-away learners: registered by the public form, and deactivated when all was asked."""

import secrets
from dataclasses import dataclass

import httpx

from usher.contract.paths import LmsPath
from usher.doctor.conformance.asking import csrf_headers

_DEACTIVATE = "/api/user/v1/accounts/deactivate_logout/"


class LearnerError(Exception):
    """The LMS wouldn't make a throw-away learner; the message has its answer."""


@dataclass(frozen=True)
class ThrowAwayLearner:
    """A learner of ours at the LMS, signed in by ``session``."""

    username: str
    email: str
    password: str
    session: httpx.Client

    def enrolled_runs(self) -> list[str]:
        answer = self.session.get(LmsPath.ENROLLMENT)
        if answer.status_code != httpx.codes.OK:
            return []
        return [row["course_details"]["course_id"] for row in answer.json() if row["is_active"]]


def register(session: httpx.Client) -> ThrowAwayLearner:
    """Register one with a password. Raises LearnerError when the LMS refuses."""
    username = f"conformance-{secrets.token_hex(4)}"
    learner = ThrowAwayLearner(
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
    )
    if answer.status_code != httpx.codes.OK:
        raise LearnerError(
            f"the LMS didn't register a throw-away learner: {answer.status_code} "
            f"{answer.text[:200]}"
        )
    return learner


def remove(learner: ThrowAwayLearner, worker: httpx.Client, token: str) -> str:
    """Unenroll and deactivate. Returns what is left over, '' for nothing.

    An LMS never deletes a learner by its API: deactivated is as gone as it gets.
    """
    headers = {"Authorization": f"Bearer {token}"}
    left = [run for run in learner.enrolled_runs() if not _unenroll(learner, run, worker, headers)]
    if not (_deactivate_self(learner) or _deactivate_by_usher(learner, worker, headers)):
        return f"the account {learner.username} is still active: deactivate it in the LMS admin"
    return f"{learner.username} is still enrolled in {', '.join(left)}" if left else ""


def _unenroll(
    learner: ThrowAwayLearner, run: str, worker: httpx.Client, headers: dict[str, str]
) -> bool:
    worker.cookies.clear()
    found = worker.get(f"{LmsPath.ENROLLMENT}/{learner.username},{run}", headers=headers)
    mode = (
        found.json()["mode"] if found.status_code == httpx.codes.OK and found.content else "audit"
    )
    body = {
        "user": learner.username,
        "mode": mode,
        "is_active": False,
        "course_details": {"course_id": run},
    }
    answer = worker.post(LmsPath.ENROLLMENT, headers=headers, json=body)
    return answer.status_code == httpx.codes.OK


def _deactivate_self(learner: ThrowAwayLearner) -> bool:
    answer = learner.session.post(
        _DEACTIVATE, data={"password": learner.password}, headers=csrf_headers(learner.session)
    )
    return answer.status_code == httpx.codes.NO_CONTENT


def _deactivate_by_usher(
    learner: ThrowAwayLearner, worker: httpx.Client, headers: dict[str, str]
) -> bool:
    item = {
        "id": "1",
        "username": learner.username,
        "email": learner.email,
        "name": "Conformance Learner",
        "is_active": False,
    }
    answer = worker.post(LmsPath.USHER_ACCOUNTS, headers=headers, json={"items": [item]})
    if answer.status_code != httpx.codes.OK:
        return False
    results = answer.json().get("results") or [{}]
    return results[0].get("status") in ("updated", "exists")
