"""One line in the log for each row that the LMS newly refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usher.application.audit.text import one_line
from usher.application.logs import logger
from usher.application.signals import newly_refused
from usher.engine.observers import Observer

log = logger("usher.refusals")


class RefusalLog(Observer):
    """Kind, learner or run, and the error code as ``reason``: a value named ``code`` is taken for
    an authorization code, and redacted. The LMS's own words stay in the row: they may repeat
    whatever was sent."""

    def written(self, kind: str, done: Sequence[tuple[Any, Any]]) -> None:
        for one in newly_refused(kind, done):
            log.warning(
                "refused",
                kind=kind,
                what=one_line(one.what),
                reason=one_line(one.code, 64),
                request_id=one.request_id,
            )
