"""An LMS's answer, and its differences from the expected one."""

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import httpx

from usher.doctor.conformance.expectations import Expectation
from usher.doctor.conformance.shapes import Variables, differences

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """body: parsed JSON; ``{"html": True, "title": …}`` for a page; otherwise text."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: Any = field(repr=False)

    @classmethod
    def of(cls, response: httpx.Response) -> "Answer":
        return cls(response.status_code, response.headers, _body(response))


def _body(response: httpx.Response) -> Any:
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html") and response.content:
        title = _TITLE.search(response.text)
        return {
            "html": True,
            "title": unescape(" ".join(title[1].split())) if title else None,
        }
    if "json" in kind:
        try:
            return response.json()
        except (ValueError, RecursionError):
            return response.text
    return response.text


def deviations(expectation: Expectation, answer: Answer, variables: Variables) -> list[str]:
    """How ``answer`` differs from ``expectation``, one sentence each; empty when it agrees."""
    if answer.status != expectation.status:
        body = _brief(answer.body)
        return [f"status is {answer.status}, expected {expectation.status}{body}"]
    sentences = _header_deviations(expectation, answer, variables)
    sentences += differences(expectation.body, answer.body, variables)
    return sentences + _limit_deviations(expectation, answer)


def _header_deviations(expectation: Expectation, answer: Answer, variables: Variables) -> list[str]:
    sentences = []
    for name, shape in expectation.headers.items():
        if shape is None:  # other answers of the endpoint have this header, this one need not
            continue
        value = answer.headers.get(name, "")
        if name == "Allow":
            # Additional methods are no deviation: releases add methods that Usher doesn't use.
            if missing := _methods(shape) - _methods(value):
                sentences.append(f"header Allow has no {', '.join(sorted(missing))}")
            continue
        sentences += differences(shape, value, variables, f"header {name}")
    return sentences


def _methods(value: str) -> set[str]:
    return {part.strip() for part in value.split(",") if part.strip()}


def _limit_deviations(expectation: Expectation, answer: Answer) -> list[str]:
    """Sentences about a wrong number of results in a list."""
    results = answer.body.get("results", []) if isinstance(answer.body, dict) else []
    sentences = []
    count, at_most = expectation.limits.get("count"), expectation.limits.get("at_most")
    if count is not None and len(results) != count:
        sentences.append(f"{len(results)} results, expected {count}")
    if at_most is not None and len(results) > at_most:
        sentences.append(f"{len(results)} results, expected {at_most} at most")
    return sentences


def _brief(body: Any) -> str:
    text = str(body)
    return f": {text[:100]}" if text else ""
