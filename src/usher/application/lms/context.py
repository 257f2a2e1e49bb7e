"""The LMS as a job reaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Self

from usher.application.lms.evidence import Evidence
from usher.application.lms.recognition import recognition
from usher.client.authorization import AuthorizationRequest
from usher.client.batch import capabilities
from usher.client.client import LmsClient
from usher.client.shared import SharedState
from usher.client.tracing import Span, span
from usher.client.urgency import urgent
from usher.engine.other_system import Ask, Context

#: Gives OAuth codes of this application, in the database thread.
Grants = Callable[[list[AuthorizationRequest]], list[str]]


@dataclass(frozen=True)
class LmsContext(Context):
    """grants: writes OAuth codes, in the thread that calls it. grant: gets one for a job, from
    whichever thread. batch: what the LMS offers of its batch API; batch_is_known: whether it said
    so, and that is not what is assumed until it can be asked. known_accounts: how many accounts
    the LMS is known to have, and usernames of some."""

    lms: LmsClient
    grants: Grants
    batch: frozenset[str]
    redirect_uri: str
    evidence: Evidence = field(default_factory=Evidence)
    batch_is_known: bool = True
    known_accounts: Callable[[], tuple[int, Sequence[Any]]] = lambda: (0, [])
    ask: Ask | None = None

    @property
    def state(self) -> SharedState:
        return self.lms.http.state

    def grant(self, wanted: AuthorizationRequest) -> str:
        code: str = self.ask(wanted) if self.ask else self.grants([wanted])[0]
        return code

    def before_work(self) -> None:
        recognition(self.lms).load(self.known_accounts)

    def recognise(self) -> None:
        """Before anything is done in the LMS: raises TooManyMissing when it is another one."""
        if not self.evidence.accepts:
            recognition(self.lms).check(self.lms)

    def prove(self) -> None:
        """Before a refusal is believed: raises LmsError unless the known LMS answers now."""
        if self.evidence.accepts:
            self.lms.confirm()
        else:
            recognition(self.lms).prove(self.lms)

    def learned(self) -> Self | None:
        if self.batch_is_known:
            return None
        found = capabilities(self.lms)
        return None if found is None else replace(self, batch=found, batch_is_known=True)

    def asking(self, ask: Ask) -> Self:
        return replace(self, ask=ask)

    def answers(self, questions: Sequence[AuthorizationRequest]) -> list[str]:
        return self.grants(list(questions))

    @contextmanager
    def working_on(self, kind: str, rows: int, *, is_urgent: bool) -> Iterator[Span]:
        with (
            urgent() if is_urgent else nullcontext(),
            span(f"reconcile {kind}", usher__kind=kind, usher__rows=rows) as told,
        ):
            yield told
