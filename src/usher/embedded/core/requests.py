"""Types of requests."""

from django.contrib.auth.models import User
from django.http import HttpRequest


class SignedInRequest(HttpRequest):
    """The type of the request in a view behind ``login_required``; never instantiated."""

    user: User
