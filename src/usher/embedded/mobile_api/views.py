"""``/api/mobile/v0.5/``: the token's user, which the applications read before they enroll a
learner."""

from typing import Any

from django.contrib.auth.models import User
from django.http import Http404
from django.shortcuts import redirect
from django.urls import reverse
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import API_AUTHENTICATION


class MyUserInfoView(APIView):
    """Redirects to the user's own details."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)

    def get(self, request: Any, api_version: str) -> Any:
        url_kwargs = {"api_version": api_version, "username": request.user.username}
        return redirect(reverse("user-detail", kwargs=url_kwargs))


class UserDetailView(APIView):
    """The user's own details; other usernames answer 404."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)

    def get(self, request: Any, api_version: str, username: str) -> Response:
        if request.user.username != username:
            raise Http404
        user = User.objects.select_related("profile").get(pk=request.user.pk)
        enrollments = f"{request.path.rstrip('/')}/course_enrollments/"
        return Response(
            {
                "id": user.pk,
                "username": user.username,
                "email": user.email,
                "name": user.profile.name if hasattr(user, "profile") else "",
                "course_enrollments": request.build_absolute_uri(enrollments),
            }
        )
