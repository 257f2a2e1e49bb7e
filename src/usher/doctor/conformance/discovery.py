"""Finds what requests need: the owner of a token, course runs, the backend."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx

from usher.contract.oauth import BACKENDS
from usher.contract.paths import LmsPath, in_path


class ConformanceError(Exception):
    """No request can be sent to the LMS; the message says why and what to do."""


@contextmanager
def expecting_open_edx(url: str) -> Iterator[None]:
    """Within this context, errors that an answer of an unknown shape causes become
    ConformanceError. url: the LMS's address."""
    try:
        yield
    except (
        *(ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError),
        httpx.InvalidURL,
    ) as error:
        raise ConformanceError(
            f"{url} answers in a shape that Open edX does not have ({type(error).__name__}). "
            "Is this the address of an Open edX LMS?"
        ) from error


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def find_token_owner(client: httpx.Client, token: str) -> str:
    """Returns the username of the token's owner. Raises ConformanceError if the LMS refuses the
    token, or if the server is not an LMS."""
    url = client.base_url
    try:
        answer = client.get(LmsPath.ME, headers=bearer(token))
    except httpx.HTTPError as error:
        raise ConformanceError(
            f"{url} does not answer ({error or type(error).__name__}). "
            "Check the address, and that the LMS runs."
        ) from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise ConformanceError(f"{url} refuses the token (401). Give the service worker's token.")
    try:
        return str(answer.json()["username"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConformanceError(
            f"{str(url).rstrip('/')}{LmsPath.ME} answers {answer.status_code} and no username. "
            "Is this the address of an Open edX LMS?"
        ) from error


def find_runs(client: httpx.Client, token: str, username: str) -> dict[str, str]:
    """Returns the values ``course`` and ``course2`` (keys of runs that are open to enrollment),
    ``closed_course`` (the key of a run whose enrollment has ended) and ``org``. Leaves out values
    for which the LMS shows no run. username: the owner of the token; '' to list the runs that
    anybody sees."""
    answer = client.get(
        LmsPath.COURSES,
        headers=bearer(token),
        params={"page_size": 100, "username": username},
    )
    runs = answer.json().get("results", []) if answer.status_code == httpx.codes.OK else []
    ended_runs = [run for run in runs if _enrollment_ended(run)]
    open_runs = [run for run in runs if run not in ended_runs and not run.get("invitation_only")]
    values = {"org": runs[0]["org"]} if runs else {}
    for name, run in zip(("course", "course2"), open_runs, strict=False):
        values[name] = run["course_id"]
    if ended_runs:
        values["closed_course"] = ended_runs[0]["course_id"]
    return values


def _enrollment_ended(run: dict[str, str | None]) -> bool:
    end = run.get("enrollment_end")
    return end is not None and datetime.fromisoformat(end) < datetime.now(UTC)


def read_modes(client: httpx.Client, token: str, course: str) -> frozenset[str]:
    """Returns the slugs of a run's modes; empty if the LMS does not return them. course: a key."""
    path = LmsPath.COURSE_MODES.format(course_key=in_path(course))
    answer = client.get(path, headers=bearer(token))
    if answer.status_code != httpx.codes.OK:
        return frozenset()
    return frozenset(mode["mode_slug"] for mode in answer.json())


def find_backend(client: httpx.Client) -> str:
    """Returns the first of Usher's backends that this LMS can sign in with; '' for none."""
    for name in BACKENDS:
        answer = client.get(LmsPath.sign_in_start(name), params={"auth_entry": "login"})
        if answer.status_code == httpx.codes.FOUND:
            return name
    return ""


def read_learner_account(client: httpx.Client, token: str) -> dict[str, str]:
    """Returns the values ``learner`` and ``learner_email`` of the owner of a learner's token.
    Leaves out ``learner_email`` if the LMS does not show it. Raises ConformanceError if the LMS
    refuses the token."""
    me = client.get(LmsPath.ME, headers=bearer(token))
    if me.status_code != httpx.codes.OK:
        raise ConformanceError(f"the LMS refuses the learner's token ({me.status_code}).")
    username = me.json()["username"]
    account = client.get(f"{LmsPath.ACCOUNTS}/{username}", headers=bearer(token))
    email = account.json().get("email", "") if account.status_code == httpx.codes.OK else ""
    values = {"learner": username}
    if email:
        values["learner_email"] = email
    return values
