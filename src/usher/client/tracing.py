"""OpenTelemetry spans, if ``opentelemetry-api`` is installed; otherwise nothing happens.

No attribute names a learner. Paths of requests are left out, because a path may name a learner.
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
    """A span that takes attributes and an error. Without OpenTelemetry it does nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set_attributes(self, **attributes: str | int) -> None:
        """Sets attributes. Each double underscore in a name becomes a dot."""
        if self._span is not None and self._span.is_recording():
            for name, value in attributes.items():
                self._span.set_attribute(name.replace("__", "."), value)

    def fail(self, reason: str) -> None:
        """Marks the span as failed. reason: a code such as ``timed-out``; never the LMS's message,
        which may name a learner."""
        if self._span is not None:
            self.set_attributes(error__type=reason)
            self._span.set_status(trace.StatusCode.ERROR, reason)


@contextmanager
def span(name: str, *, is_request: bool = False, **attributes: str | int) -> Iterator[Span]:
    """A span of the time within the block. is_request: whether it is a request to another
    system."""
    if not HAS_TRACES:
        yield Span()
        return
    kind = trace.SpanKind.CLIENT if is_request else trace.SpanKind.INTERNAL
    current = _TRACER.start_span(name, kind=kind)
    if not current.get_span_context().is_valid:  # the program has set up no tracing
        yield Span()
        return
    # An exception's message may name a learner, so it is not recorded; the caller passes a code to
    # ``fail``.
    with trace.use_span(
        current, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        result = Span(current)
        result.set_attributes(**attributes)
        yield result
