"""The reason of a refusal is found in all forms in which Open edX's endpoints send reasons."""

import json
from typing import Any

import pytest

from usher.contract.refusals import sentence_of, status_and_sentence


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ({"developer_message": "No such run."}, "No such run."),
        (
            {"detail": {"error_code": "token_expired", "developer_message": "It has expired."}},
            "It has expired.",
        ),
        ({"developer_message": {"detail": ["Not now."]}}, "Not now."),
        ({"error": "invalid_grant", "error_description": "Used before."}, "Used before."),
        ({"message": "The mode ended.", "status": 400}, "The mode ended."),
        (
            {"field_errors": {"name": {"developer_message": "Too long.", "user_message": "x"}}},
            "name: Too long.",
        ),
        ({"field_errors": {"username": {"developer_message": "bad"}}}, "username: bad"),
        ({"emails": ["Not a list.", "Empty."]}, "emails: Not a list. Empty."),
        ({"non_field_errors": ["Both are the same."]}, "Both are the same."),
        ({"items": {"0": {"mode": ["Too long."]}}}, "items: mode: Too long."),
        (
            {
                "error_code": "duplicate-username",
                "username": [{"user_message": "It is taken."}],
                "username_suggestions": ["ann_1"],
            },
            "username: It is taken.",
        ),
        (["Not now.", "Not now."], "Not now."),
        ("Plain text.", "Plain text."),
        ("<!doctype html><p>Bad Request", ""),
        ("{not JSON", "{not JSON"),
        ({"error_code": "closed"}, ""),
        ({}, ""),
        (None, ""),
        ("", ""),
    ],
)
def test_the_sentence_in_a_refusal_is_found(refusal: Any, sentence: str) -> None:
    assert sentence_of(refusal) == sentence
    if isinstance(refusal, dict | list):
        assert sentence_of(json.dumps(refusal)) == sentence


def test_an_answer_without_a_sentence_is_described_by_its_status_alone() -> None:
    assert status_and_sentence(502, "<h1>Bad gateway</h1>") == "502"
    assert status_and_sentence(400, '{"message": "No such mode."}') == "400: No such mode."
