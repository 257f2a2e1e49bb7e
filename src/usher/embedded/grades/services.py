"""Stores course grades and sends the platform's signals."""

from datetime import datetime

from django.contrib.auth.models import User
from django.utils import timezone
from opaque_keys.edx.keys import CourseKey
from openedx_events.learning.data import CourseData, PersistentCourseGradeData
from openedx_events.learning.signals import PERSISTENT_GRADE_SUMMARY_CHANGED

from usher.embedded.grades.models import PersistentCourseGrade


def record(
    user: User, key: CourseKey, *, percent: float, letter: str = "", passed: bool = False
) -> PersistentCourseGrade:
    """Store a grade, and send the event. percent: from 0 to 1. A learner who has passed once does
    not lose the pass."""
    stored_grade = PersistentCourseGrade.objects.filter(user_id=user.pk, course_id=key).first()
    passed_at: datetime | None = stored_grade.passed_timestamp if stored_grade else None
    grade, _ = PersistentCourseGrade.objects.update_or_create(
        user_id=user.pk,
        course_id=key,
        defaults={
            "percent_grade": percent,
            "letter_grade": letter,
            "passed_timestamp": passed_at or (timezone.now() if passed else None),
        },
    )
    PERSISTENT_GRADE_SUMMARY_CHANGED.send_event(
        grade=PersistentCourseGradeData(
            user_id=user.pk,
            course=CourseData(course_key=key),
            course_edited_timestamp=grade.modified,
            course_version="",
            grading_policy_hash="",
            percent_grade=percent,
            letter_grade=letter,
            # The event requires a time, even if the learner has not passed.
            passed_timestamp=grade.passed_timestamp or grade.modified,
        )
    )
    return grade
