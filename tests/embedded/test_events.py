"""The embedded LMS sends the same openedx-events as the platform."""

import json

from tests.support.embedded import EmbeddedLms

#: A script that collects events about enrollments and certificates in the list ``sent``, and sets
#: the variables ``user`` and ``key`` for the script that follows.
LISTEN = """
import json
from openedx_events.learning import signals
sent = []
def listen(name):
    def receiver(signal, **kwargs):
        data = kwargs.get("enrollment") or kwargs.get("certificate")
        sent.append([name, str(data.mode)])
        if hasattr(data, "is_active"):
            sent[-1].append(data.is_active)
    getattr(signals, name).connect(receiver, weak=False)
for name in ("COURSE_ENROLLMENT_CREATED", "COURSE_ENROLLMENT_CHANGED",
             "COURSE_UNENROLLMENT_COMPLETED", "CERTIFICATE_CREATED", "CERTIFICATE_CHANGED"):
    listen(name)
from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey
user = User.objects.get(username={name!r})
key = CourseKey.from_string("course-v1:edX+DemoX+Demo_Course")
"""


def collect_events(lms: EmbeddedLms, name: str, script: str) -> list[list[object]]:
    """Registers the learner ``name``, and then runs ``script`` in the LMS. Returns the events that
    the script caused: name of the signal, mode, and for enrollments whether they are active."""
    lms.register(name)
    text = LISTEN.replace("{name!r}", repr(name)) + script + "\nprint(json.dumps(sent))"
    return json.loads(lms.shell(text))


def test_each_change_of_an_enrollment_sends_events(lms: EmbeddedLms, name: str) -> None:
    script = """
from usher.embedded.student.models import CourseEnrollment
enrollment = CourseEnrollment.enroll(user, key)
enrollment.update_enrollment(mode="verified")
enrollment.update_enrollment(mode="verified")  # changes nothing, so sends nothing
enrollment.update_enrollment(is_active=False)
"""
    assert collect_events(lms, name, script) == [
        ["COURSE_ENROLLMENT_CHANGED", "audit", True],
        ["COURSE_ENROLLMENT_CREATED", "audit", True],
        ["COURSE_ENROLLMENT_CHANGED", "verified", True],
        ["COURSE_ENROLLMENT_CHANGED", "verified", False],
        ["COURSE_UNENROLLMENT_COMPLETED", "verified", False],
    ]


def test_creating_and_changing_a_certificate_sends_events(lms: EmbeddedLms, name: str) -> None:
    script = """
from usher.embedded.certificates import services
services.award(user, key, mode="verified", grade="0.8")
services.award(user, key, mode="verified", grade="0.9")
"""
    assert collect_events(lms, name, script) == [
        ["CERTIFICATE_CREATED", "verified"],
        ["CERTIFICATE_CHANGED", "verified"],
    ]
