"""Compares grades and certificates with the LMS, and changes none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from usher.client.errors import NotThere
from usher.client.payloads import ObservedGrade
from usher.sidecar.adapters.adapter import Table
from usher.sidecar.learners import Learner, read_learners, read_runs
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
        own_rows = _rows_of(session, session.adapter.grades, run["course"])
        own_grades = {row["username"]: row for row in own_rows}
        for username, lms_grade in lms_grades.items():
            yield from _compare_grade(username, run["course"], own_grades.get(username), lms_grade)


def _compare_grade(
    username: str, course: str, row: dict[str, Any] | None, lms_grade: ObservedGrade
) -> Iterator[DifferenceText]:
    """Yields the difference, if any. row: the grade here, or None, which counts as a difference
    only if the learner passed."""
    lms_text = f"{_grade_text(lms_grade.percent, lms_grade.passed)} in the LMS"
    if row is None:
        if lms_grade.passed:
            yield f"{username} in {course}", f"{lms_text}; no grade here"
        return
    if row["by_staff"]:
        return  # staff may set another grade than the LMS's
    has_other_grade = abs(row["grade"] - lms_grade.percent) > _ROUNDING
    if has_other_grade or bool(row["passed"]) != lms_grade.passed:
        own_text = f"{_grade_text(row['grade'], row['passed'])} here"
        yield f"{row['email']} in {course}", f"{own_text}; {lms_text}"


def _grade_text(grade: float, passed: bool) -> str:
    """``82%, passed`` for 0.82."""
    return f"{grade:.0%}, passed" if passed else f"{grade:.0%}"


def _rows_of(session: Session, table: Table, course: str) -> Iterator[dict[str, Any]]:
    """Yields the table's rows of a course run, with the sidecar's names."""
    pages = session.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{table.columns["course"]: course}],
        limit=500,
    )
    for page in pages:
        for row in page["rows"]:
            yield table.rename_columns(row)


def compare_certificates(session: Session) -> Iterator[DifferenceText]:
    """Compares the certificates of enrolled learners. Sends one request for each learner, several
    at a time."""

    def is_enrolled(learner: Learner) -> bool:
        return learner.has_account and any(row.enrolled for row in learner.enrollments)

    def courses_with_certificate_in_lms(learner: Learner) -> set[str]:
        return _courses_with_certificate(session, learner.username)

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        for page in read_learners(session.agent, session.adapter):
            learners = [learner for learner in page if is_enrolled(learner)]
            own_certificates = _own_certificates(session, [learner.pk for learner in learners])
            lms_certificates = pool.map(courses_with_certificate_in_lms, learners)
            for learner, lms_courses in zip(learners, lms_certificates, strict=True):
                own_courses = own_certificates.get(learner.pk, set())
                enrolled_courses = {row.course for row in learner.enrollments}
                for course in sorted(lms_courses & enrolled_courses):
                    if course not in own_courses:
                        what = f"{learner.shown_name} in {course}"
                        yield what, "a certificate in the LMS; none here"


def _courses_with_certificate(session: Session, username: str) -> set[str]:
    """Returns the course keys of the learner's certificates in the LMS that the learner can use."""
    try:
        certificates = session.lms.certificates(username)
    except NotThere:
        return set()
    return {certificate.course_key for certificate in certificates if certificate.status == _ISSUED}


def _own_certificates(session: Session, keys: list[Any]) -> dict[Any, set[str]]:
    """Returns learner → course keys of the certificates in the application, including revoked ones,
    since the application decided to revoke them."""
    table = session.adapter.certificates
    courses: dict[Any, set[str]] = {}
    if not keys:
        return courses
    pages = session.agent.pages(
        model=table.model,
        fields=table.paths,
        filter=[{f"{table.columns['user']}__in": keys}],
        limit=MOST_ROWS,
    )
    for page in pages:
        for row in page["rows"]:
            certificate = table.rename_columns(row)
            courses.setdefault(certificate["user"], set()).add(certificate["course"])
    return courses
