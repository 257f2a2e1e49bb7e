"""Requests of which more is known than that they came."""

from django.contrib.auth.models import User
from django.http import HttpRequest


class SignedInRequest(HttpRequest):
    """What a view behind ``login_required`` gets; never made, only named as a type."""

    user: User
