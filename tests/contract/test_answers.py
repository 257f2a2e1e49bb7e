"""JSON objects in answers that may hold anything."""

from __future__ import annotations

import pytest

from usher.contract.answers import json_object


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[1]", b"7", b"null", b"\xff\xfe\xff", b"[" * 100_000, '{"a": ' * 100_000],
    ids=range(8),
)
def test_a_body_without_an_object_is_an_empty_object(body: bytes | str) -> None:
    assert json_object(body) == {}


@pytest.mark.parametrize("body", ['{"a": [1]}', b'{"a": [1]}'])
def test_an_object_is_read(body: bytes | str) -> None:
    assert json_object(body) == {"a": [1]}
