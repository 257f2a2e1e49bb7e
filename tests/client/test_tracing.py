"""Spans of OpenTelemetry: their contents, and the absence of personal data."""

from contextlib import suppress

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from usher.client import OpenEdx, tracing
from usher.client.connection import opened_by
from usher.client.errors import LmsError


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("usher"))
    return exporter


class Answers(httpx.MockTransport):
    deadline = 0.0


def ask_an_lms_that_answers(answer: httpx.Response) -> None:
    lms = OpenEdx("http://lms.invalid", worker="worker", token="secret-token")
    opener = opened_by(lambda base_url, ssl_context: Answers(lambda request: answer))
    with opener, suppress(LmsError):
        lms.me("token-of-ada-lovelace")


def test_a_request_is_a_span(spans: InMemorySpanExporter) -> None:
    ask_an_lms_that_answers(httpx.Response(200, json={"username": "ada-lovelace"}))

    (span,) = spans.get_finished_spans()
    assert span.kind is trace.SpanKind.CLIENT
    assert span.name.startswith("LMS GET ")
    assert span.attributes["http.request.method"] == "GET"
    assert span.attributes["http.response.status_code"] == 200
    assert span.status.is_ok
    assert "ada-lovelace" not in span.to_json()


def test_refused_and_failed_requests_are_failed_spans(spans: InMemorySpanExporter) -> None:
    ask_an_lms_that_answers(httpx.Response(403, json={"detail": "ada-lovelace may not"}))

    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "403")
    assert "ada-lovelace" not in span.to_json()


def test_steps_within_are_its_children(spans: InMemorySpanExporter) -> None:
    with tracing.span("reconcile account", usher__rows=1):
        ask_an_lms_that_answers(httpx.Response(200, json={"username": "ada-lovelace"}))

    request, step = spans.get_finished_spans()
    assert request.parent is not None and request.parent.span_id == step.context.span_id
    assert step.attributes == {"usher.rows": 1}


def test_an_exception_passes_and_its_message_is_not_recorded(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="ada-lovelace"), tracing.span("x"):
        raise ValueError("ada-lovelace")
    (span,) = spans.get_finished_spans()
    assert "ada-lovelace" not in span.to_json()


def test_without_opentelemetry_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "HAS_TRACES", False)
    with tracing.span("x", usher__rows=1) as traced:
        traced.set_attributes(a=1)
        traced.fail("timeout")
