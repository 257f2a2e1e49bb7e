from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from oauth2_provider.utils import parse_bearer_token

from usher.application.health import configuration


@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """Answers 200 as long as this process is running."""
    return JsonResponse({"status": "ok"})


@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """Answers 200, or 503 if the database can't be reached.

    A request that proves that it has the service worker's token also gets fingerprints of the
    settings in use.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"status": "failed", "database": "unreachable"}, status=503)
    body: dict[str, Any] = {"status": "ok", "database": "ok"}
    if token := parse_bearer_token(request.META.get("HTTP_AUTHORIZATION")):
        is_proof = configuration.is_proof(token)
        body["configuration"] = configuration.fingerprints() if is_proof else {}
    return JsonResponse(body)
