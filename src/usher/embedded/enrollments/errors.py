"""Why an enrollment could not be read or changed:

CourseEnrollmentError
├── UserNotFoundError
├── CourseEnrollmentClosedError
├── CourseEnrollmentFullError
├── CourseEnrollmentExistsError   carries the enrollment
├── CourseModeNotFoundError       carries the run's details
├── EnrollmentNotFoundError
└── InvalidEnrollmentAttribute
CourseNotFoundError
"""

from typing import Any


class CourseEnrollmentError(Exception):
    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class UserNotFoundError(CourseEnrollmentError):
    pass


class CourseEnrollmentClosedError(CourseEnrollmentError):
    pass


class CourseEnrollmentFullError(CourseEnrollmentError):
    pass


class CourseEnrollmentExistsError(CourseEnrollmentError):
    """``data`` is the existing enrollment."""


class CourseModeNotFoundError(CourseEnrollmentError):
    """``data`` is the run with the modes it has."""


class EnrollmentNotFoundError(CourseEnrollmentError):
    pass


class InvalidEnrollmentAttribute(CourseEnrollmentError):
    pass


class CourseNotFoundError(Exception):
    pass
