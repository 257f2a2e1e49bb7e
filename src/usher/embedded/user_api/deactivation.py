"""``POST /api/user/v1/accounts/deactivate_logout/``: learners delete their own account."""

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, logout
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.user_api.retirement import RetirementStateError, request_retirement


class DeactivateLogoutView(APIView):
    """Answers as the platform does (``user_api/accounts/views.py``): 204; 403 for a wrong password,
    or if account deletion is switched off; 500 if retirement is not configured."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        if not settings.FEATURES.get("ENABLE_ACCOUNT_DELETION", True):
            return Response(status=403)
        user = request.user
        password = request.data.get("password", "")
        if authenticate(request._request, username=user.username, password=password) != user:
            return Response(status=403)
        try:
            request_retirement(user)
        except RetirementStateError as error:
            return Response(str(error), status=500)
        logout(request._request)
        return Response(status=204)
