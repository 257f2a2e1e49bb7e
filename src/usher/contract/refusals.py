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

#: How deep a sentence may be nested. Open edX nests four levels at most.
_MAX_DEPTH = 10


def sentence_of(refusal: Any) -> str:
    """The sentence in a refusal; '' for an HTML page and for an answer without a sentence. Errors
    of fields are listed as ``field: message``. Values that are nested more than ``_MAX_DEPTH``
    levels deep are ignored. refusal: the text of an answer, or its parsed JSON."""
    return _sentence_of(refusal, _MAX_DEPTH)


def _sentence_of(refusal: Any, depth: int) -> str:
    """As ``sentence_of``. depth: how many more levels are read."""
    if depth == 0:
        return ""
    if isinstance(refusal, str):
        return _sentence_of_text(refusal.strip(), depth)
    if isinstance(refusal, dict):
        return _sentence_of_mapping(refusal, depth)
    if isinstance(refusal, list):
        sentences = (_sentence_of(item, depth - 1) for item in refusal)
        return " ".join(dict.fromkeys(filter(None, sentences)))
    return "" if refusal is None or isinstance(refusal, bool) else str(refusal)


def _sentence_of_text(text: str, depth: int) -> str:
    if text.startswith(("{", "[")):
        try:
            return _sentence_of(json.loads(text), depth - 1)
        except (ValueError, RecursionError):
            return text
    is_page = text.startswith("<")  # HTML, of which no sentence is shown
    return "" if is_page else text


def _sentence_of_mapping(body: dict[Any, Any], depth: int) -> str:
    """The sentence under the best key that has one; otherwise the messages of all fields."""
    for key in _SENTENCE_KEYS:
        if sentence := _sentence_of(body.get(key), depth - 1):
            return sentence
    messages = []
    for key, value in body.items():
        message = "" if key in _NOT_MESSAGES else _sentence_of(value, depth - 1)
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
