"""Reads the sentence in an answer with which Open edX refuses something.

Open edX's endpoints have several forms of refusals: ``developer_message`` or ``detail`` (also one
level deeper), OAuth's ``error_description``, ``message``, ``field_errors``, and a list of messages
for each field, as Django REST framework writes it.
"""

from __future__ import annotations

import json
from typing import Any

#: Keys of the sentence, the best one first.
_SENTENCE = ("developer_message", "detail", "message", "error_description", "user_message")
#: Keys that are left out of the sentence: their messages concern the whole request, or name the
#: fields themselves.
_NO_FIELD = ("field_errors", "non_field_errors", "__all__")
#: Keys whose values are not messages.
_NO_MESSAGE = (
    *("error_code", "error", "status", "status_code", "success"),
    *("username_suggestions", "authn_error"),
)


def in_words(refusal: Any) -> str:
    """The sentence in a refusal; '' for an HTML page and for an answer without a sentence. Errors
    of fields are listed as ``field: message``. refusal: the answer's text, or its parsed JSON."""
    if isinstance(refusal, str):
        return _of_text(refusal.strip())
    if isinstance(refusal, dict):
        return _of_mapping(refusal)
    if isinstance(refusal, list):
        return " ".join(dict.fromkeys(filter(None, map(in_words, refusal))))
    return "" if refusal is None or isinstance(refusal, bool) else str(refusal)


def _of_text(text: str) -> str:
    if text.startswith(("{", "[")):
        try:
            return in_words(json.loads(text))
        except (ValueError, RecursionError):
            return text
    return "" if text.startswith("<") else text


def _of_mapping(body: dict[Any, Any]) -> str:
    for name in _SENTENCE:
        if words := in_words(body.get(name)):
            return words
    fields = []
    for name, value in body.items():
        if name in _NO_MESSAGE or not (words := in_words(value)):
            continue
        fields.append(words if name in _NO_FIELD or str(name).isdigit() else f"{name}: {words}")
    return "; ".join(fields)


def answered(status: int, text: str) -> str:
    """``400: Invalid mode``, for a message about an answer with this status and text."""
    return f"{status}: {words[:200]}" if (words := in_words(text)) else str(status)
