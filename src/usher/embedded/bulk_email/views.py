"""``/api/change_email_settings``: subscribe to a course's e-mails, or unsubscribe."""

from typing import Any

from opaque_keys.edx.keys import CourseKey
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.bulk_email.models import Optout
from usher.embedded.core.authentication import API_AUTHENTICATION


class ChangeEmailSettingsView(APIView):
    """Subscribes the user to the e-mails of a run, or unsubscribes the user."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        key = CourseKey.from_string(request.data.get("course_id"))
        if request.data.get("receive_emails"):
            Optout.objects.filter(user=request.user, course_id=key).delete()
        else:
            Optout.objects.get_or_create(user=request.user, course_id=key)
        return Response({"success": True})
