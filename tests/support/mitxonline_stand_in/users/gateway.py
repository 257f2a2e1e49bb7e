"""Signs in the user that the API gateway's header names, as APISIX does."""

import base64
import json

from django.contrib.auth import authenticate, login
from django.contrib.auth.backends import ModelBackend

HEADER = "X-Userinfo"


class GatewayBackend(ModelBackend):
    def authenticate(self, request, gateway_username=None, **_):
        from users.models import User

        if gateway_username is None:
            return None
        return User.objects.filter(username=gateway_username, is_active=True).first()


class GatewayMiddleware:
    """Signs in the active user whom the header names. A request without the header, or with the
    header for a user who does not exist, keeps its session."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        userinfo = request.headers.get(HEADER)
        if userinfo:
            name = json.loads(base64.b64decode(userinfo)).get("preferred_username")
            user = authenticate(request, gateway_username=name)
            if user is not None and request.user != user:
                login(request, user, backend="users.gateway.GatewayBackend")
        return self.get_response(request)
