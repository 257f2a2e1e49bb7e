"""Registers a test learner by the public form, and removes the learner.

In all functions ``token`` is the service worker's token. ``client`` sends requests with this token
only: each function deletes the client's cookies, so that the LMS does not take the session of an
earlier answer."""

import secrets
from dataclasses import dataclass, field

import httpx

from usher.contract.paths import LmsPath
from usher.contract.refusals import sentence_of
from usher.doctor.conformance.answers import Answer
from usher.doctor.conformance.checking import csrf_headers

#: With this endpoint learners deactivate their own account; it asks for the password.
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
        """Keys of the runs of active enrollments; empty if the LMS refuses the request."""
        answer = self.session.get(LmsPath.ENROLLMENT)
        if answer.status_code != httpx.codes.OK:
            return []
        return [row["course_details"]["course_id"] for row in answer.json() if row["is_active"]]


def register(session: httpx.Client, token: str) -> RegisteredLearner:
    """Registers a test learner with a password. Raises LearnerError if the LMS refuses.

    token: an LMS with a connected application accepts no registration without it. session: is
    signed in as the learner afterwards.
    """
    username = f"conformance-{secrets.token_hex(4)}"
    learner = RegisteredLearner(
        username=username,
        email=f"{username}@learners.example",
        # The LMS may require letters of both cases and a digit.
        password=secrets.token_urlsafe(16) + "aA1",
        session=session,
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
    text = str(body["title"]) if is_page else sentence_of(body)
    return text[:200]


def remove(learner: RegisteredLearner, client: httpx.Client, token: str) -> str:
    """Unenrolls and deactivates the learner. Returns a text about the part that failed, or ''.

    The LMS's API can deactivate a learner, and can't delete one.
    """
    runs = learner.enrolled_runs()
    if _deactivate_as_learner(learner):
        return _unenroll_all(learner.username, runs, client, token)
    return remove_as_service_worker(learner.username, runs, client, token)


def remove_if_present(username: str, runs: list[str], client: httpx.Client, token: str) -> str:
    """Like ``remove_as_service_worker``, but does nothing and returns '' if the LMS has no such
    account."""
    client.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    status = client.get(f"{LmsPath.ACCOUNTS}/{username}", headers=headers).status_code
    if status == httpx.codes.NOT_FOUND:
        return ""
    if status != httpx.codes.OK:
        return f"the account {username} may still be in the LMS, which answered {status}"
    return remove_as_service_worker(username, runs, client, token)


def remove_as_service_worker(
    username: str, runs: list[str], client: httpx.Client, token: str
) -> str:
    """Unenrolls with the public API, and deactivates with the batch API, which only an LMS with
    usher.lms has. Returns a text about the part that failed, or ''."""
    remaining = _unenroll_all(username, runs, client, token)
    if _deactivate_as_service_worker(username, client, token):
        return remaining
    return f"the account {username} is still active: deactivate it in the LMS admin"


def _unenroll_all(username: str, runs: list[str], client: httpx.Client, token: str) -> str:
    """Unenrolls the learner from these runs. Returns a text about the runs in which the learner is
    still enrolled, or ''."""
    remaining = [run for run in runs if not _unenroll(username, run, client, token)]
    return f"{username} is still enrolled in {', '.join(remaining)}" if remaining else ""


def _unenroll(username: str, run: str, client: httpx.Client, token: str) -> bool:
    """Unenrolls in the active mode, because the LMS refuses any other. Returns whether the LMS
    accepted it."""
    client.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    enrollment = client.get(f"{LmsPath.ENROLLMENT}/{username},{run}", headers=headers)
    is_found = enrollment.status_code == httpx.codes.OK and enrollment.content
    mode = enrollment.json()["mode"] if is_found else "audit"
    client.cookies.clear()
    answer = client.post(
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
    """Deactivates the account with the learner's own session and password. Returns whether the LMS
    did so."""
    answer = learner.session.post(
        _DEACTIVATE, data={"password": learner.password}, headers=csrf_headers(learner.session)
    )
    return answer.status_code == httpx.codes.NO_CONTENT


def _deactivate_as_service_worker(username: str, client: httpx.Client, token: str) -> bool:
    """Deactivates the LMS account through the batch API. Returns whether it is inactive now."""
    client.cookies.clear()
    headers = {"Authorization": f"Bearer {token}"}
    account = client.get(f"{LmsPath.ACCOUNTS}/{username}", headers=headers)
    if account.status_code != httpx.codes.OK:
        return False
    item = {
        "id": "1",
        "username": username,
        "email": account.json().get("email", ""),
        "name": account.json().get("name", ""),
        "is_active": False,
    }
    client.cookies.clear()
    answer = client.post(LmsPath.USHER_ACCOUNTS, headers=headers, json={"items": [item]})
    if answer.status_code != httpx.codes.OK:
        return False
    results = answer.json().get("results") or [{}]
    return results[0].get("status") in ("updated", "exists")  # "exists": it was inactive before
