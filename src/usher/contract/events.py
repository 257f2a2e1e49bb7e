"""Messages that the LMS sends to an application, signed as ``contract.signatures`` says.

Webhooks: ``{"type": …, "data": {"username": …, "course_id": …}, "at": ISO}`` to the webhook
address. ``course_id`` is absent if the type is not about a course run; ``at`` is when the LMS
recorded the change. Sign-outs: ``{"event_id": …, "username": …, "at": ISO}`` to the back-channel
address.
"""

from enum import StrEnum


class EventType(StrEnum):
    """The kind of a change in the LMS. ``signed-out`` goes to the back-channel address, all others
    to the webhook address."""

    ACCOUNT = "account.changed"
    ENROLLMENT = "enrollment.changed"
    GRADE = "grade.changed"
    CERTIFICATE = "certificate.changed"
    SIGNED_OUT = "signed-out"
