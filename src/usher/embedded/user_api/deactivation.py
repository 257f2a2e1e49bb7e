"""``POST /api/user/v1/accounts/deactivate_logout/``: learners give up their own account."""

import hashlib
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.contrib.auth.models import User
from django.db import transaction
from oauth2_provider.models import get_access_token_model, get_refresh_token_model
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from social_django.models import UserSocialAuth

from usher.embedded.core.authentication import API_AUTHENTICATION


class DeactivateLogoutView(APIView):
    """As the platform (``user_api/accounts/views.py``): 204; 403 for a wrong password, or where
    account deletion is switched off."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        if not settings.FEATURES.get("ENABLE_ACCOUNT_DELETION", True):
            return Response(status=403)
        user = request.user
        password = request.data.get("password", "")
        if authenticate(request._request, username=user.username, password=password) != user:
            return Response(status=403)
        deactivate(user)
        logout(request._request)
        return Response(status=204)


@transaction.atomic
def deactivate(user: User) -> None:
    """No way in is left: links, tokens and the password go, the e-mail is free again."""
    UserSocialAuth.objects.filter(user=user).delete()
    get_refresh_token_model().objects.filter(user=user).delete()
    get_access_token_model().objects.filter(user=user).delete()
    digest = hashlib.sha256(f"{settings.SECRET_KEY}:{user.email}".encode()).hexdigest()[:40]
    user.email = f"retired__user_{digest}@retired.invalid"
    user.set_unusable_password()
    user.save()
