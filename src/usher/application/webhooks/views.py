"""``POST /usher/webhooks/lms/``: signed messages of the LMS."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from usher.application import conf
from usher.application.engine.wake import wake_soon
from usher.application.provider import limits
from usher.application.requests import body_of, is_storable
from usher.application.webhooks.services import take
from usher.contract import signatures

_MAX_BODY = 64 * 1024


@csrf_exempt  # the signature says who speaks
@require_POST
def lms_webhook(request: HttpRequest) -> JsonResponse:
    """200 taken or taken before, 401 not signed by our LMS or too old, 400 not a message."""
    if limited := limits.WEBHOOKS.refusal(request):
        return limited
    body = body_of(request, _MAX_BODY)
    if body is None:
        return _no("too large", 413)
    event_id = request.headers.get(signatures.HEADER_EVENT_ID, "")
    timestamp = signatures.read_timestamp(request.headers.get(signatures.HEADER_TIMESTAMP, ""))
    is_ours = timestamp is not None and signatures.verify(
        conf.settings().webhook_secret,
        request.headers.get(signatures.HEADER_SIGNATURE, ""),
        timestamp=timestamp,
        event_id=event_id,
        body=body,
        now=time.time(),
    )
    if not is_ours:
        limited = limits.WEBHOOKS.count_failure(request, is_wrong=True)
        return limited or _no("bad signature or too old", 401)
    limits.WEBHOOKS.note_success(request)
    message = _read(body)
    if message is None:
        return _no("not a message", 400)
    taken = take(event_id, message.kind, message.username, message.course_id)
    if taken:
        wake_soon()
    return JsonResponse({"taken": taken})


@dataclass(frozen=True)
class _Message:
    kind: str
    username: str
    course_id: str


def _read(body: bytes) -> _Message | None:
    """None for what is no message, or names what no database could hold."""
    try:
        message = json.loads(body)
        kind, data = message["type"], message["data"]
        texts = [kind, data.get("username") or "", data.get("course_id") or ""]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not all(isinstance(text, str) and is_storable(text) for text in texts):
        return None
    return _Message(*texts)


def _no(reason: str, status: int) -> JsonResponse:
    return JsonResponse({"error": reason}, status=status)
