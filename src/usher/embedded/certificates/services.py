"""Creates certificates and sends the platform's signals."""

from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey
from openedx_events.learning.data import CertificateData, CourseData
from openedx_events.learning.signals import CERTIFICATE_CHANGED, CERTIFICATE_CREATED

from usher.embedded.certificates.models import CertificateStatuses, GeneratedCertificate
from usher.embedded.student.events import user_data


def award(
    user: User,
    key: CourseKey,
    *,
    mode: str = "verified",
    grade: str = "",
    status: str = CertificateStatuses.downloadable,
) -> GeneratedCertificate:
    """Give ``user`` the certificate of a run, or update the user's existing certificate, and send
    the event."""
    certificate, created = GeneratedCertificate.objects.update_or_create(
        user=user,
        course_id=key,
        defaults={"mode": mode, "grade": grade, "status": status, "name": user.profile.name},
    )
    data = CertificateData(
        user=user_data(user),
        course=CourseData(course_key=key),
        mode=certificate.mode,
        grade=certificate.grade,
        current_status=certificate.status,
        download_url=certificate.download_url,
        name=certificate.name,
    )
    (CERTIFICATE_CREATED if created else CERTIFICATE_CHANGED).send_event(certificate=data)
    return certificate
