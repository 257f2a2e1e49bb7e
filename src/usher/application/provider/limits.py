"""A limit on failures at the token endpoint, by client and address.

Only what fails counts, and correct credentials are always served: a stranger who knows the LMS's
client id (it is in every sign-in address) must not be able to lock the LMS out.
"""

from hashlib import sha256

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, JsonResponse

from usher.application.audit.services import client_address

WINDOW_SECONDS = 60
DEFAULT_FAILURES_A_WINDOW = 30


def count_failure(request: HttpRequest, client_id: str) -> JsonResponse | None:
    """Count one failure; the answer to give instead when there were too many."""
    limit = getattr(settings, "USHER_TOKEN_FAILURES_A_MINUTE", DEFAULT_FAILURES_A_WINDOW)
    who = f"{client_id}|{client_address(request)}"
    key = "usher-token-failures-" + sha256(who.encode()).hexdigest()[:32]
    cache.add(key, 0, WINDOW_SECONDS)
    try:
        failures = cache.incr(key)
    except ValueError:  # ended between the two calls: a new window
        return None
    if failures <= limit:
        return None
    return JsonResponse(
        {"error": "temporarily_unavailable", "error_description": "Too many failed requests."},
        status=429,
        headers={"Retry-After": str(WINDOW_SECONDS), "Cache-Control": "no-store"},
    )
