"""Serial enrollments and sync of course runs."""

from __future__ import annotations

from django.conf import settings
from edx_api.client import EdxApi
from requests.exceptions import HTTPError

from benchmarks.reference.store.models import Run, RunEnrollment


def _client() -> EdxApi:
    return EdxApi({"access_token": settings.SERVICE_TOKEN}, settings.LMS_URL, timeout=60)


def send_enrollments(limit: int) -> int:
    """Sends enrollments that the LMS doesn't have yet, with one lookup and one POST for each.
    Returns the number of enrollments."""
    rows = RunEnrollment.objects.filter(edx_enrolled=False).select_related("user", "run")
    count = 0
    for row in rows.order_by("pk")[:limit]:
        client = _client()
        if not _is_enrolled(client, row):
            client.enrollments.create_student_enrollment(
                row.run.course_key, mode=row.mode, username=row.user.username
            )
        row.edx_enrolled = True
        row.save()
        count += 1
    return count


def _is_enrolled(client: EdxApi, row: RunEnrollment) -> bool:
    """Whether the LMS has the enrollment, active and in this mode; False if the request fails."""
    try:
        enrollments = client.enrollments.get_enrollments(usernames=[row.user.username])
        return any(
            enrollment.course_id == row.run.course_key
            and enrollment.mode == row.mode
            and enrollment.is_active
            for enrollment in enrollments
        )
    except HTTPError:
        return False


def sync_runs() -> int:
    """Fetches all pages one after the other, and saves each run. Returns the number of runs."""
    runs_by_key = {run.course_key: run for run in Run.objects.all()}
    count = 0
    for course in _client().course_list.get_courses(username="service-worker"):
        run = runs_by_key.get(course.course_id) or Run(course_key=course.course_id)
        run.title = course.name
        run.start = course.start
        run.end = course.end
        run.enrollment_start = course.enrollment_start
        run.enrollment_end = course.enrollment_end
        run.is_self_paced = course.pacing == "self"
        run.save()
        count += 1
    return count
