"""The expectations agree with the recordings."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from usher.doctor.conformance.answers import Answer, deviations
from usher.doctor.conformance.expectations import Expectation, load
from usher.doctor.conformance.shapes import as_pattern

#: A status that no expectation has.
NEVER_EXPECTED = 418
RECORDINGS = {
    int(path.name[:3]): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[2] / "recordings").glob("[0-9]*.json"))
}
EXPECTATIONS_AND_RECORDINGS = [
    pytest.param(expectation, number, id=f"{expectation.id}-{number:03}")
    for expectation in load()
    for number in expectation.source
    if number in RECORDINGS
]


def answer_of(recording: dict[str, Any]) -> Answer:
    response = recording["response"]
    headers = {
        name: value
        for name, value in response["headers"].items()
        if not name.startswith("Set")  # recordings have a list of cookies here
    }
    return Answer(response["status"], httpx.Headers(headers), response["body"])


@pytest.mark.parametrize(("expectation", "number"), EXPECTATIONS_AND_RECORDINGS)
def test_the_recorded_answer_agrees_with_the_expectation(
    expectation: Expectation, number: int
) -> None:
    answer = answer_of(RECORDINGS[number])
    assert deviations(expectation, answer, {}) == []


@pytest.mark.parametrize(("expectation", "number"), EXPECTATIONS_AND_RECORDINGS)
def test_the_recorded_request_is_the_request_of_the_expectation(
    expectation: Expectation, number: int
) -> None:
    request = RECORDINGS[number]["request"]
    assert request["method"] == expectation.request["method"]
    path = unquote(urlsplit(request["path"]).path)
    assert re.fullmatch(as_pattern(expectation.request["path"], {}), path)


def test_every_recording_has_an_expectation() -> None:
    assert RECORDINGS, "tests/recordings is empty"
    recordings_with_expectation = {
        number for expectation in load() for number in expectation.source
    }
    assert sorted(set(RECORDINGS) - recordings_with_expectation) == []


def test_ids_are_unique_and_every_expectation_has_a_sentence_and_recordings() -> None:
    ids = [expectation.id for expectation in load()]
    assert len(ids) == len(set(ids))
    for expectation in load():
        assert expectation.says
        assert expectation.source
        assert set(expectation.source) <= set(RECORDINGS), expectation.id


@pytest.mark.parametrize(("expectation", "number"), EXPECTATIONS_AND_RECORDINGS)
def test_another_status_is_a_deviation(expectation: Expectation, number: int) -> None:
    recorded = answer_of(RECORDINGS[number])
    answer_with_other_status = Answer(NEVER_EXPECTED, recorded.headers, recorded.body)
    assert deviations(expectation, answer_with_other_status, {})
