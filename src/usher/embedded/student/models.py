"""Tables of the platform's ``student`` app, one file for people and one for enrollments."""

from usher.embedded.student.enrollment_models import (
    CourseAccessRole,
    CourseEnrollment,
    CourseEnrollmentAllowed,
    CourseEnrollmentAttribute,
    ManualEnrollmentAudit,
)
from usher.embedded.student.people_models import (
    AccountRecovery,
    AnonymousUserId,
    LanguageProficiency,
    PendingEmailChange,
    PendingNameChange,
    Registration,
    SocialLink,
    UserAttribute,
    UserProfile,
    UserStanding,
    anonymous_id_for_user,
    email_exists_or_retired,
    retired_email,
    retired_username,
    username_exists_or_retired,
)

__all__ = [
    "AccountRecovery",
    "AnonymousUserId",
    "CourseAccessRole",
    "CourseEnrollment",
    "CourseEnrollmentAllowed",
    "CourseEnrollmentAttribute",
    "LanguageProficiency",
    "ManualEnrollmentAudit",
    "PendingEmailChange",
    "PendingNameChange",
    "Registration",
    "SocialLink",
    "UserAttribute",
    "UserProfile",
    "UserStanding",
    "anonymous_id_for_user",
    "email_exists_or_retired",
    "retired_email",
    "retired_username",
    "username_exists_or_retired",
]
