"""OpenTelemetry spans, when ``opentelemetry-api`` is installed; otherwise nothing happens.

No attribute names a learner, and no path of a request is told: it may name one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
except ImportError:
    HAS_TRACES = False
else:
    HAS_TRACES = True

    _TRACER = trace.get_tracer("usher")


class Span:
    """What a step tells of itself. Without OpenTelemetry it tells nobody."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def tell(self, **attributes: str | int) -> None:
        """Names are as given, with a dot for each double underscore."""
        if self._span is not None and self._span.is_recording():
            for name, value in attributes.items():
                self._span.set_attribute(name.replace("__", "."), value)

    def fail(self, reason: str) -> None:
        """reason: a code such as ``timeout``; never the LMS's words, which may name a learner."""
        if self._span is not None:
            self.tell(error__type=reason)
            self._span.set_status(trace.StatusCode.ERROR, reason)


@contextmanager
def span(name: str, *, is_request: bool = False, **attributes: str | int) -> Iterator[Span]:
    """A span of what happens within. is_request: something is asked of another system."""
    if not HAS_TRACES:
        yield Span()
        return
    kind = trace.SpanKind.CLIENT if is_request else trace.SpanKind.INTERNAL
    # An exception's words may name a learner: who raises says what failed by ``fail``.
    with _TRACER.start_as_current_span(
        name, kind=kind, record_exception=False, set_status_on_exception=False
    ) as current:
        told = Span(current)
        told.tell(**attributes)
        yield told
