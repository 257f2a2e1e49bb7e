"""No input makes the batch API fail: malformed input is answered with 400."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lms.conftest import DEMO, TOKEN, Lms
from tests.lms.test_batch import ACCOUNTS, ENROLLMENTS

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
TEXTS = st.one_of(st.text(max_size=300), st.just(DEMO), st.just("audit"))
#: Items in which fields are missing or have values of any type.
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(TEXTS, VALUES)
        for name in (
            *("id", "username", "email", "name", "country", "is_active", "tokens"),
            *("course_id", "mode", "force"),
        )
    },
)
#: Items with all required fields, each of the right type.
WELL_FORMED_ITEMS = st.fixed_dictionaries(
    {
        "id": st.integers(),
        "username": TEXTS,
        "email": st.one_of(st.emails(), TEXTS),
        "name": TEXTS,
        "course_id": TEXTS,
        "mode": TEXTS,
    }
)
BODIES = st.one_of(
    VALUES, st.fixed_dictionaries({"items": st.lists(ITEMS, max_size=3)}), WELL_FORMED_ITEMS
)


def post(lms: Lms, path: str, content: bytes) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return httpx.post(
        lms.url + path, content=content, headers=headers, trust_env=False, timeout=120
    )


@pytest.mark.parametrize("path", [ACCOUNTS, ENROLLMENTS])
class TestBodies:
    @SETTINGS
    @given(body=BODIES)
    def test_any_json_is_answered_with_200_or_400(self, lms: Lms, path: str, body: Any) -> None:
        answer = post(lms, path, json.dumps(body).encode())

        assert answer.status_code in (200, 400), answer.text
        assert isinstance(answer.json(), dict | list)

    @SETTINGS
    @given(items=st.lists(WELL_FORMED_ITEMS, min_size=1, max_size=5))
    def test_results_have_the_ids_of_well_formed_items(
        self, lms: Lms, path: str, items: list[dict[str, Any]]
    ) -> None:
        answer = post(lms, path, json.dumps({"items": items}).encode())

        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            results = answer.json()["results"]
            assert [result["id"] for result in results] == [item["id"] for item in items]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"items": [' + b"1" * 5000 + b"]}",
            b'{"items": [NaN]}',
            rb'{"items": [{"id": 1, "username": "\ud800", "email": "a@b.example"}]}',
            rb'{"items": [{"id": 1, "username": "a\u0000b", "course_id": "x"}]}',
        ],
        ids=["empty", "half", "bytes", "deep", "digits", "nan", "surrogate", "nul"],
    )
    def test_malformed_batches_are_refused(self, lms: Lms, path: str, content: bytes) -> None:
        assert post(lms, path, content).status_code == 400

    def test_too_many_items_are_refused(self, lms: Lms, path: str) -> None:
        item = {"id": 1, "username": "a", "email": "a@x.example", "course_id": DEMO}
        answer = post(lms, path, json.dumps({"items": [item] * 501}).encode())

        assert answer.status_code == 400
        assert "items" in answer.json()

    def test_an_error_names_the_invalid_field(self, lms: Lms, path: str) -> None:
        item = {"id": 1, "username": 5, "email": None, "is_active": "perhaps"}
        errors = post(lms, path, json.dumps({"items": [item]}).encode()).json()["items"]

        assert "is_active" in str(errors)


@pytest.mark.parametrize("kind", ["accounts", "enrollments", "course-runs"])
class TestQueries:
    @SETTINGS
    @given(
        since=st.one_of(st.text(max_size=40), st.datetimes().map(str)),
        cursor=st.text(max_size=40),
        limit=st.one_of(st.text(max_size=10), st.integers().map(str)),
    )
    def test_any_query_is_answered_with_200_or_400(
        self, lms: Lms, kind: str, since: str, cursor: str, limit: str
    ) -> None:
        with lms.api() as api:
            for query in ({"changed_since": since}, {"cursor": cursor}, {"limit": limit}):
                answer = api.get(f"/usher/api/v1/{kind}/", params=query)
                assert answer.status_code in (200, 400), answer.text

    # The second and third moments are outside of the years 1 to 9999 in UTC.
    @pytest.mark.parametrize(
        "since",
        ["yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01"],
    )
    def test_an_invalid_moment_is_refused(self, lms: Lms, kind: str, since: str) -> None:
        with lms.api() as api:
            answer = api.get(f"/usher/api/v1/{kind}/", params={"changed_since": since})

        assert answer.status_code == 400
        assert set(answer.json()) == {"changed_since"}
