"""Logs one line for each row that the LMS has newly refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usher.application.audit.text import one_line
from usher.application.logs import logger
from usher.application.signals import newly_refused
from usher.engine.observers import Observer

log = logger("usher.refusals")


class RefusalLog(Observer):
    """Logs the kind, the learner or run, and the error code as ``reason``: a value named ``code``
    would be redacted as an authorization code. The LMS's message is not logged, since the message
    may repeat personal data; the row has the message."""

    def written(self, kind: str, results: Sequence[tuple[Any, Any]]) -> None:
        for refusal in newly_refused(kind, results):
            log.warning(
                "refused",
                kind=kind,
                what=one_line(refusal.what),
                reason=one_line(refusal.code, limit=64),
                request_id=refusal.request_id,
            )
