"""Django looks for models here. They are defined in the folder of each capability."""

from usher.application.accounts.models import (
    LmsAccount,
    LmsProfile,
    Retirement,
    UsernameReservation,
)
from usher.application.enrollments.models import Enrollment
from usher.application.metrics.models import MetricValue
from usher.application.records.models import Certificate, Grade
from usher.application.runs.models import CourseMode, CourseRun, RunModes
from usher.application.tokens.models import LmsToken
from usher.application.webhooks.models import ReceivedEvent

__all__ = [
    "Certificate",
    "CourseMode",
    "CourseRun",
    "Enrollment",
    "Grade",
    "LmsAccount",
    "LmsProfile",
    "LmsToken",
    "MetricValue",
    "ReceivedEvent",
    "Retirement",
    "RunModes",
    "UsernameReservation",
]
