"""Compares grades and certificates with the LMS. They are never written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from usher.client.errors import NotThere
from usher.client.payloads import GradeSeen
from usher.sidecar.adapters.adapter import Table
from usher.sidecar.learners import learners, runs
from usher.sidecar.opening import Opened
from usher.sidecar.process import MOST_ROWS

GRADE, CERTIFICATE = "grade", "certificate"
_AT_ONCE = 8
#: Grades that differ by less count as equal, since both are rounded.
_NEAR = 0.005
#: The statuses of the LMS's certificates that a learner can use.
_ISSUED = "downloadable"

#: what, difference
Found = tuple[str, str]


def grades(sides: Opened) -> Iterator[Found]:
    """Compares grades, with one request for each run. Leaves out those that staff set in the
    application."""
    for run in runs(sides.agent, sides.adapter, only=sides.adapter.graded):
        try:
            there = dict(sides.lms.grades_of_run(run["course"]))
        except NotThere:
            continue  # the comparison of runs reports that the LMS does not have it
        here = {
            row["username"]: row for row in _rows_of(sides, sides.adapter.grades, run["course"])
        }
        for username, seen in there.items():
            yield from _grade(username, run["course"], here.get(username), seen)


def _grade(
    username: str, course: str, row: dict[str, Any] | None, seen: GradeSeen
) -> Iterator[Found]:
    told = f"{seen.percent:.0%}{', passed' if seen.passed else ''} in the LMS"
    if row is None:
        if seen.passed:
            yield f"{username} in {course}", f"{told}; no grade here"
        return
    if row["by_staff"]:
        return
    if abs(row["grade"] - seen.percent) > _NEAR or bool(row["passed"]) != seen.passed:
        here = f"{row['grade']:.0%}{', passed' if row['passed'] else ''} here"
        yield f"{row['email']} in {course}", f"{here}; {told}"


def _rows_of(sides: Opened, table: Table, course: str) -> Iterator[dict[str, Any]]:
    for page in sides.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{table.columns["course"]: course}],
        limit=500,
    ):
        yield from map(table.named, page["rows"])


def certificates(sides: Opened) -> Iterator[Found]:
    """Compares certificates of enrolled learners, with one request each, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for page in learners(sides.agent, sides.adapter):
            made = [
                learner
                for learner in page
                if learner.made and any(row.enrolled for row in learner.enrollments)
            ]
            here = _certificates_of(sides, [learner.pk for learner in made])
            seen = pool.map(lambda one: _seen(sides, one.username), made)
            for learner, there in zip(made, seen, strict=True):
                wanted = {row.course for row in learner.enrollments}
                for course in sorted(there & wanted - here.get(learner.pk, set())):
                    yield f"{learner.email} in {course}", "a certificate in the LMS; none here"


def _seen(sides: Opened, username: str) -> set[str]:
    try:
        found = sides.lms.certificates(username)
    except NotThere:
        return set()
    return {one.course_key for one in found if one.status == _ISSUED}


def _certificates_of(sides: Opened, keys: list[Any]) -> dict[Any, set[str]]:
    """Returns learner → course keys of the certificates here, including revoked ones, since the
    application decided to revoke them."""
    table = sides.adapter.certificates
    found: dict[Any, set[str]] = {}
    if not keys:
        return found
    for page in sides.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{table.columns["user"] + "__in": keys}],
        limit=MOST_ROWS,
    ):
        for row in map(table.named, page["rows"]):
            found.setdefault(row["user"], set()).add(row["course"])
    return found
