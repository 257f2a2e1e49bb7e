from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from oauth2_provider.utils import parse_bearer_token

from usher.application.health import configuration


@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers at all."""
    return JsonResponse({"status": "ok"})


@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """200 when requests can be served, 503 while the database can't be reached.

    Who shows to have the service worker's token is told fingerprints of the settings in use.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"status": "failed", "database": "unreachable"}, status=503)
    told: dict[str, Any] = {"status": "ok", "database": "ok"}
    if proof := parse_bearer_token(request.META.get("HTTP_AUTHORIZATION")):
        known = configuration.is_proof(proof)
        told["configuration"] = configuration.fingerprints() if known else {}
    return JsonResponse(told)
