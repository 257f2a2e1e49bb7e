"""Compares grades and certificates with the LMS, and changes none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from usher.client.errors import NotThere
from usher.client.payloads import ObservedGrade
from usher.sidecar.adapters.adapter import Table
from usher.sidecar.learners import read_learners, read_runs
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.session import Session

GRADE, CERTIFICATE = "grade", "certificate"
#: Concurrent requests to the LMS.
_CONCURRENCY = 8
#: Grades, from 0 to 1, that differ by less count as equal, since both are rounded.
_ROUNDING = 0.005
#: The LMS's status of a certificate that its learner can use.
_ISSUED = "downloadable"

#: What differs (the learner and the run), and the difference.
DifferenceText = tuple[str, str]


def compare_grades(session: Session) -> Iterator[DifferenceText]:
    """Compares grades, with one request for each run. Leaves out grades that staff set in the
    application."""
    for run in read_runs(session.agent, session.adapter, selection=session.adapter.graded_runs):
        try:
            lms_grades = dict(session.lms.grades_of_run(run["course"]))
        except NotThere:
            continue  # the comparison of runs reports runs that the LMS lacks
        own_grades = {
            row["username"]: row for row in _rows_of(session, session.adapter.grades, run["course"])
        }
        for username, lms_grade in lms_grades.items():
            yield from _compare_grade(username, run["course"], own_grades.get(username), lms_grade)


def _compare_grade(
    username: str, course: str, row: dict[str, Any] | None, lms_grade: ObservedGrade
) -> Iterator[DifferenceText]:
    """Yields the difference, if any. row: the grade here, or None, which counts as a difference
    only if the learner passed."""
    lms_text = f"{lms_grade.percent:.0%}{', passed' if lms_grade.passed else ''} in the LMS"
    if row is None:
        if lms_grade.passed:
            yield f"{username} in {course}", f"{lms_text}; no grade here"
        return
    if row["by_staff"]:
        return  # staff may set another grade than the LMS's
    if abs(row["grade"] - lms_grade.percent) > _ROUNDING or bool(row["passed"]) != lms_grade.passed:
        own_text = f"{row['grade']:.0%}{', passed' if row['passed'] else ''} here"
        yield f"{row['email']} in {course}", f"{own_text}; {lms_text}"


def _rows_of(session: Session, table: Table, course: str) -> Iterator[dict[str, Any]]:
    for page in session.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{table.columns["course"]: course}],
        limit=500,
    ):
        yield from map(table.rename_columns, page["rows"])


def compare_certificates(session: Session) -> Iterator[DifferenceText]:
    """Compares the certificates of enrolled learners. Sends one request for each learner, several
    at a time."""
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        for page in read_learners(session.agent, session.adapter):
            enrolled_learners = [
                learner
                for learner in page
                if learner.has_account and any(row.enrolled for row in learner.enrollments)
            ]
            own_courses = _own_certificates(session, [learner.pk for learner in enrolled_learners])
            courses_in_lms = pool.map(
                lambda learner: _courses_with_certificate(session, learner.username),
                enrolled_learners,
            )
            for learner, lms_courses in zip(enrolled_learners, courses_in_lms, strict=True):
                enrolled_courses = {row.course for row in learner.enrollments}
                for course in sorted(
                    lms_courses & enrolled_courses - own_courses.get(learner.pk, set())
                ):
                    yield f"{learner.shown_name} in {course}", "a certificate in the LMS; none here"


def _courses_with_certificate(session: Session, username: str) -> set[str]:
    try:
        all_certificates = session.lms.certificates(username)
    except NotThere:
        return set()
    return {
        certificate.course_key for certificate in all_certificates if certificate.status == _ISSUED
    }


def _own_certificates(session: Session, keys: list[Any]) -> dict[Any, set[str]]:
    """Returns learner → course keys of the certificates in the application, including revoked ones,
    since the application decided to revoke them."""
    table = session.adapter.certificates
    courses: dict[Any, set[str]] = {}
    if not keys:
        return courses
    for page in session.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{table.columns["user"] + "__in": keys}],
        limit=MOST_ROWS,
    ):
        for row in map(table.rename_columns, page["rows"]):
            courses.setdefault(row["user"], set()).add(row["course"])
    return courses
