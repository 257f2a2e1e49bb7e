"""The embedded LMS sends the events of openedx-events when the platform does."""

import json

from tests.support.embedded import EmbeddedLms

LISTEN = """
import json
from openedx_events.learning import signals
seen = []
def listen(name):
    def receiver(signal, **kwargs):
        data = kwargs.get("enrollment") or kwargs.get("certificate")
        detail = [str(data.mode)] if data else [kwargs["user"].pii.username]
        if hasattr(data, "is_active"):
            detail.append(data.is_active)
        seen.append([name, *detail])
    getattr(signals, name).connect(receiver, weak=False)
for name in ("STUDENT_REGISTRATION_COMPLETED", "COURSE_ENROLLMENT_CREATED",
             "COURSE_ENROLLMENT_CHANGED", "COURSE_UNENROLLMENT_COMPLETED",
             "CERTIFICATE_CREATED", "CERTIFICATE_CHANGED"):
    listen(name)
from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey
user = User.objects.get(username={name!r})
key = CourseKey.from_string("course-v1:edX+DemoX+Demo_Course")
"""


def events(lms: EmbeddedLms, name: str, script: str) -> list[list[object]]:
    lms.register(name)
    text = LISTEN.replace("{name!r}", repr(name)) + script + "\nprint(json.dumps(seen))"
    return json.loads(lms.shell(text))


def test_an_enrollment_through_its_life(lms: EmbeddedLms, name: str) -> None:
    script = """
from usher.embedded.student.models import CourseEnrollment
enrollment = CourseEnrollment.enroll(user, key)
enrollment.update_enrollment(mode="verified")
enrollment.update_enrollment(mode="verified")
enrollment.update_enrollment(is_active=False)
"""
    assert events(lms, name, script) == [
        ["COURSE_ENROLLMENT_CHANGED", "audit", True],
        ["COURSE_ENROLLMENT_CREATED", "audit", True],
        ["COURSE_ENROLLMENT_CHANGED", "verified", True],
        ["COURSE_ENROLLMENT_CHANGED", "verified", False],
        ["COURSE_UNENROLLMENT_COMPLETED", "verified", False],
    ]


def test_a_certificate_that_is_made_and_changed(lms: EmbeddedLms, name: str) -> None:
    script = """
from usher.embedded.certificates import services
services.award(user, key, mode="verified", grade="0.8")
services.award(user, key, mode="verified", grade="0.9")
"""
    assert events(lms, name, script) == [
        ["CERTIFICATE_CREATED", "verified"],
        ["CERTIFICATE_CHANGED", "verified"],
    ]
