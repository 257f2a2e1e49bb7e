"""``/api/certificates/v0/certificates/``: certificates that learners have earned."""

from typing import Any

from django.contrib.auth.models import User
from edx_rest_framework_extensions import permissions
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.certificates.models import CertificateStatuses, GeneratedCertificate
from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.user_api.models import UserPreference
from usher.embedded.user_api.serializers import visible_fields


class IsOwnerOrPublicCertificates(BasePermission):
    """Allows the owner of the certificates, and everybody if the owner has made them public."""

    def has_permission(self, request: Any, view: Any) -> bool:
        username = view.kwargs.get("username")
        if request.user.username == username:
            return True
        owner = User.objects.get(username=username)
        visibility = UserPreference.get_value(owner, "visibility.course_certificates")
        return bool(visibility == "all_users")


def _may_view_certificates(requester: Any, username: str) -> bool:
    owner = User.objects.select_related("profile").filter(username=username).first()
    if owner is None:
        return False
    if requester.is_staff or requester.username == username:
        return True
    return "course_certificates" in visible_fields(owner, getattr(owner, "profile", None))


def _common_fields(certificate: GeneratedCertificate) -> dict[str, Any]:
    return {
        "username": certificate.user.username,
        "course_id": str(certificate.course_id),
        "certificate_type": certificate.mode,
        "created_date": certificate.created_date,
        "status": certificate.status,
        "is_passing": certificate.is_passing,
        "download_url": certificate.download_url or None,
        "grade": certificate.grade,
    }


class CertificatesListView(APIView):
    """The earned certificates of one user."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (
        IsAuthenticated
        & (
            permissions.NotJwtRestrictedApplication
            | (
                permissions.JwtRestrictedApplication
                & permissions.JwtHasScope
                & permissions.JwtHasUserFilterForRequestedUser
            )
        ),
        permissions.IsStaff | IsOwnerOrPublicCertificates,
    )
    required_scopes = ("certificates:read",)

    def get(self, request: Any, username: str) -> Response:
        # As on the platform, certificates that the requester may not see are no error.
        if not _may_view_certificates(request.user, username):
            return Response([])
        certificates = GeneratedCertificate.objects.select_related("user").filter(
            user__username=username, status__in=CertificateStatuses.PASSED_STATUSES
        )
        runs = CourseOverview.objects.in_bulk(
            [certificate.course_id for certificate in certificates]
        )
        return Response(
            [
                {
                    **_common_fields(certificate),
                    "course_display_name": runs[certificate.course_id].display_name_with_default,
                    "course_organization": runs[certificate.course_id].display_org_with_default,
                    "modified_date": certificate.modified_date,
                    "uuid": certificate.verify_uuid,
                }
                for certificate in certificates.order_by("created_date")
                if certificate.course_id in runs  # the run may have been deleted
            ]
        )


class CertificateView(APIView):
    """One user's certificate of one run, earned or not."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (permissions.JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS,)
    required_scopes = ("certificates:read",)

    def get(self, request: Any, username: str, course_id: str) -> Response:
        try:
            key = CourseKey.from_string(course_id)
        except InvalidKeyError:
            return Response({"error_code": "course_id_not_valid"}, status=404)
        certificate = GeneratedCertificate.objects.filter(
            user__username=username, course_id=key
        ).first()
        if certificate is None:
            return Response({"error_code": "no_certificate_for_user"}, status=404)
        return Response(_common_fields(certificate))
