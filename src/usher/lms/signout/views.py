"""The endpoint for back-channel logout."""

from __future__ import annotations

import logging

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from usher.lms.connections.models import ConnectedApplication
from usher.lms.signout.services import end_sessions
from usher.lms.signout.tokens import KeysUnavailable, TokenRefused, verify_logout_token

log = logging.getLogger(__name__)


@csrf_exempt
@never_cache
@require_POST
def backchannel_logout(request: HttpRequest, backend: str) -> HttpResponse:
    """POST with the form field ``logout_token``. Answers 200 when the sessions have ended, 400 with
    a reason when the token is refused, 503 when the sender should retry, 404 for an unknown
    ``backend``."""
    application = ConnectedApplication.objects.filter(backend=backend).first()
    if application is None:
        raise Http404("no application is connected with this backend")
    try:
        username = verify_logout_token(request.POST.get("logout_token", ""), application)
    except TokenRefused as refusal:
        # As Django logs its own answers with an error status.
        log_context = {"request": request}
        log.warning(
            "A sign-out by %s was refused: %s", application.name, refusal, extra=log_context
        )
        body = {"error": "invalid_request", "error_description": str(refusal)}
        return JsonResponse(body, status=503 if isinstance(refusal, KeysUnavailable) else 400)
    number_ended = end_sessions(username, backend)
    log.info("A sign-out by %s ended %d sessions.", application.name, number_ended)
    return HttpResponse(status=200)
