"""Reads the sentence in an answer with which Open edX refuses something.

Open edX's endpoints have several forms of refusals: ``developer_message`` or ``detail`` (also one
level deeper), OAuth's ``error_description``, ``message``, ``field_errors``, and a list of messages
for each field, as Django REST framework writes it.
"""

from __future__ import annotations

import json
from typing import Any

#: Keys of the sentence, the best one first.
_SENTENCE_KEYS = ("developer_message", "detail", "message", "error_description", "user_message")
#: Keys that name no field: their messages concern the whole request, or name the fields themselves.
_NOT_FIELDS = ("field_errors", "non_field_errors", "__all__")
#: Keys whose values are not messages.
_NOT_MESSAGES = (
    "error_code",
    "error",
    "status",
    "status_code",
    "success",
    "username_suggestions",
    "authn_error",
)


def sentence_of(refusal: Any) -> str:
    """The sentence in a refusal; '' for an HTML page and for an answer without a sentence. Errors
    of fields are listed as ``field: message``. refusal: the text of an answer, or its parsed
    JSON."""
    if isinstance(refusal, str):
        return _sentence_of_text(refusal.strip())
    if isinstance(refusal, dict):
        return _sentence_of_mapping(refusal)
    if isinstance(refusal, list):
        return " ".join(dict.fromkeys(filter(None, map(sentence_of, refusal))))
    return "" if refusal is None or isinstance(refusal, bool) else str(refusal)


def _sentence_of_text(text: str) -> str:
    if text.startswith(("{", "[")):
        try:
            return sentence_of(json.loads(text))
        except (ValueError, RecursionError):
            return text
    return "" if text.startswith("<") else text


def _sentence_of_mapping(body: dict[Any, Any]) -> str:
    """The sentence under the best key that has one; otherwise the messages of all fields."""
    for key in _SENTENCE_KEYS:
        if sentence := sentence_of(body.get(key)):
            return sentence
    messages = []
    for key, value in body.items():
        message = "" if key in _NOT_MESSAGES else sentence_of(value)
        if message:
            # A number is no field but the position of an item in the request.
            is_field = key not in _NOT_FIELDS and not str(key).isdigit()
            messages.append(f"{key}: {message}" if is_field else message)
    return "; ".join(messages)


def status_and_sentence(status: int, text: str) -> str:
    """``400: Invalid mode``, for a message about an answer with this status and text; only the
    status if the text has no sentence."""
    sentence = sentence_of(text)
    return f"{status}: {sentence[:200]}" if sentence else str(status)
