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
    """Collects the spans that Usher makes during the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("usher"))
    return exporter


def send_request_answered_by(answer: httpx.Response) -> None:
    """Sends a request whose token names a learner. Ignores the error if ``answer`` is a refusal."""
    lms = OpenEdx("http://lms.invalid", worker="worker", token="secret-token")
    opener = opened_by(lambda base_url, ssl_context: httpx.MockTransport(lambda request: answer))
    with opener, suppress(LmsError):
        lms.me("token-of-ada-lovelace")


def test_a_request_makes_a_span_without_names_of_learners(spans: InMemorySpanExporter) -> None:
    send_request_answered_by(httpx.Response(200, json={"username": "ada-lovelace"}))

    (span,) = spans.get_finished_spans()
    assert span.kind is trace.SpanKind.CLIENT
    assert span.name.startswith("LMS GET ")
    assert span.attributes["http.request.method"] == "GET"
    assert span.attributes["http.response.status_code"] == 200
    assert span.status.is_ok
    assert "ada-lovelace" not in span.to_json()


def test_the_span_of_a_refused_request_fails_with_its_status(spans: InMemorySpanExporter) -> None:
    send_request_answered_by(httpx.Response(403, json={"detail": "ada-lovelace may not"}))

    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "403")
    assert "ada-lovelace" not in span.to_json()


def test_the_span_of_a_request_is_a_child_of_the_span_around_it(
    spans: InMemorySpanExporter,
) -> None:
    with tracing.span("reconcile account", usher__rows=1):
        send_request_answered_by(httpx.Response(200, json={"username": "ada-lovelace"}))

    request, step = spans.get_finished_spans()
    assert request.parent is not None and request.parent.span_id == step.context.span_id
    assert step.attributes == {"usher.rows": 1}


def test_the_message_of_an_exception_is_not_recorded_in_the_span(
    spans: InMemorySpanExporter,
) -> None:
    with pytest.raises(ValueError, match="ada-lovelace"), tracing.span("x"):
        raise ValueError("ada-lovelace")
    (span,) = spans.get_finished_spans()
    assert "ada-lovelace" not in span.to_json()


def test_spans_do_nothing_if_opentelemetry_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "HAS_TRACES", False)
    with tracing.span("x", usher__rows=1) as traced:
        traced.set_attributes(a=1)
        traced.fail("timeout")
