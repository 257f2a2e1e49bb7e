"""Rate limits by address and by user, read from the settings at each request."""

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string
from rest_framework.throttling import UserRateThrottle


def client_address(group: str, request: HttpRequest) -> str:
    """The client's address for rate limits (see ``core.middleware.XForwardedForMiddleware``)."""
    return str(request.META["REMOTE_ADDR"])


def rate_of(setting: str) -> Callable[[str, HttpRequest], str | None]:
    """A function that returns the rate limit for a request, from the setting named ``setting``. The
    setting is a rate such as ``60/7d``, a function of (group, request), or the path of such a
    function."""

    def rate(group: str, request: HttpRequest) -> str | None:
        value: Any = getattr(settings, setting)
        if isinstance(value, str) and "." in value:
            # The path of a function: a rate contains no dot.
            value = import_string(value)
        return value(group, request) if callable(value) else value

    return rate


class StaffAwareThrottle(UserRateThrottle):
    """A throttle with a separate rate for staff; ``family`` is the key of these rates in
    API_THROTTLE_RATES."""

    family = ""

    def get_rate(self) -> str | None:
        rates: Mapping[str, str | None] = settings.API_THROTTLE_RATES[self.family]
        return rates[self.scope]

    def allow_request(self, request: Any, view: Any) -> bool:
        user = request.user
        if user.is_authenticated and (user.is_staff or user.is_superuser):
            # The constructor has read the rate of the other users.
            self.scope = "staff"
            self.rate = self.get_rate()
            self.num_requests, self.duration = self.parse_rate(self.rate)
        return super().allow_request(request, view)
