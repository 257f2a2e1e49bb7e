"""``POST /usher/webhooks/lms/``: signed messages of the LMS."""

from __future__ import annotations

import json
import time
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from usher.application import conf
from usher.application.engine.wake import wake_soon
from usher.application.webhooks.services import take
from usher.contract import signatures

_MAX_BODY = 64 * 1024
_MAX_ID = 100


@csrf_exempt  # the signature says who speaks
@require_POST
def lms_webhook(request: HttpRequest) -> JsonResponse:
    """200 taken or taken before, 401 not signed by our LMS or too old, 400 not a message."""
    if int(request.headers.get("Content-Length") or 0) > _MAX_BODY:
        return _no("too large", 413)
    event_id = request.headers.get(signatures.HEADER_EVENT_ID, "")
    timestamp = request.headers.get(signatures.HEADER_TIMESTAMP, "")
    body = request.body
    is_ours = (
        timestamp.isdecimal()
        and len(timestamp) < 12
        and signatures.verify(
            conf.settings().webhook_secret,
            request.headers.get(signatures.HEADER_SIGNATURE, ""),
            timestamp=int(timestamp),
            event_id=event_id,
            body=body,
            now=time.time(),
        )
    )
    if not is_ours:
        return _no("bad signature or too old", 401)
    message = _read(body)
    if message is None or not 0 < len(event_id) <= _MAX_ID:
        return _no("not a message", 400)
    taken = take(event_id, str(message["type"]), message["data"])
    if taken:
        wake_soon()
    return JsonResponse({"taken": taken})


def _read(body: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    is_message = isinstance(message, dict) and isinstance(message.get("data"), dict)
    return message if is_message and "type" in message else None


def _no(reason: str, status: int) -> JsonResponse:
    return JsonResponse({"error": reason}, status=status)
