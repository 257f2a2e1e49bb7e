"""``POST /usher/webhooks/lms/``: receives signed messages of the LMS."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from usher.application import conf
from usher.application.metrics.recorder import recorder
from usher.application.provider import limits
from usher.application.requests import body_of, is_storable
from usher.application.webhooks.services import process_message
from usher.client.errors import LmsError
from usher.client.payloads import moment
from usher.contract import metrics, signatures
from usher.engine.notify import notify_workers

_MAX_BODY_BYTES = 64 * 1024


@csrf_exempt  # authenticated by its signature
@require_POST
def lms_webhook(request: HttpRequest) -> JsonResponse:
    """Answers 200 with ``{"taken": bool}``: False for a message that was processed before. Other
    answers are ``{"error": text}``.

    401: the signature is wrong or too old. 400: the message is malformed. 413: it is over 64 KiB.
    429: the client sent too many wrong signatures.
    """
    if limited := limits.WEBHOOKS.refusal(request):
        return limited
    body = body_of(request, _MAX_BODY_BYTES)
    if body is None:
        return _error_response(f"body longer than {_MAX_BODY_BYTES} bytes, or unreadable", 413)
    event_id = request.headers.get(signatures.HEADER_EVENT_ID, "")
    timestamp = signatures.read_timestamp(request.headers.get(signatures.HEADER_TIMESTAMP, ""))
    is_authentic = timestamp is not None and signatures.verify(
        conf.settings().webhook_secret,
        request.headers.get(signatures.HEADER_SIGNATURE, ""),
        timestamp=timestamp,
        event_id=event_id,
        body=body,
        now=time.time(),
    )
    if not is_authentic:
        recorder.count(metrics.WEBHOOKS, "refused")
        limited = limits.WEBHOOKS.count_failure(request, is_wrong=True)
        return limited or _error_response("wrong signature, or timestamp too old", 401)
    limits.WEBHOOKS.note_success(request)
    message = _parse(body)
    if message is None:
        recorder.count(metrics.WEBHOOKS, "refused")
        return _error_response("malformed message", 400)
    is_new = process_message(event_id, message.kind, message.username, message.course_id)
    if is_new:
        notify_workers()
    _measure(message, is_new=is_new)
    return JsonResponse({"taken": is_new})


def _measure(message: _Message, *, is_new: bool) -> None:
    recorder.count(metrics.WEBHOOKS, "accepted" if is_new else "repeated")
    if is_new and message.at is not None:
        recorder.observe(metrics.WEBHOOK_LAG, value=max(0.0, time.time() - message.at))
    if recorder.is_due:
        recorder.flush()


@dataclass(frozen=True)
class _Message:
    """A message of the LMS. kind: such as ``enrollment.changed``. username, course_id: '' for
    none."""

    kind: str
    username: str
    course_id: str
    #: When the message was written, in seconds since 1970 by the LMS's clock; None if the LMS did
    #: not say.
    at: float | None


def _parse(body: bytes) -> _Message | None:
    """The message; None if it is malformed or has values that the database cannot store."""
    try:
        message = json.loads(body)
        kind, data = message["type"], message["data"]
        texts = [kind, data.get("username") or "", data.get("course_id") or ""]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not all(isinstance(text, str) and is_storable(text) for text in texts):
        return None
    kind, username, course_id = texts
    return _Message(kind=kind, username=username, course_id=course_id, at=_read_time(message))


def _read_time(message: dict[str, Any]) -> float | None:
    """When the message was written, in seconds since 1970; None if it has no valid time."""
    try:
        sent_at = moment(message.get("at"))
        return sent_at.timestamp() if sent_at else None
    except (ValueError, LmsError):
        return None


def _error_response(reason: str, status: int) -> JsonResponse:
    return JsonResponse({"error": reason}, status=status)
