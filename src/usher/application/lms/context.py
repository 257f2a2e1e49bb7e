"""Access to the LMS for the engine's jobs."""

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
from usher.client.urgency import sending_only_if, urgent
from usher.engine.other_system import Ask, Context

#: Issues this application's authorization codes, one for each request; uses the database.
Grants = Callable[[list[AuthorizationRequest]], list[str]]


@dataclass(frozen=True)
class LmsContext(Context):
    """What the jobs of one pass need to use the LMS."""

    lms: LmsClient
    #: Issues authorization codes; only for the database thread.
    grants: Grants
    #: The LMS's batch capabilities.
    batch: frozenset[str]
    #: Of the application's OAuth client at the LMS.
    redirect_uri: str
    #: The samples of this pass.
    evidence: Evidence = field(default_factory=Evidence)
    #: False while ``batch`` is an assumption, because the LMS has not answered yet.
    batch_is_known: bool = True
    #: Returns the number of accounts that the LMS is known to have, and a sample of usernames.
    known_accounts: Callable[[], tuple[int, Sequence[Any]]] = lambda: (0, [])
    #: Requests an authorization code from the database thread; None if the jobs run in that thread.
    ask: Ask | None = None

    @property
    def state(self) -> SharedState:
        return self.lms.http.state

    def grant(self, request: AuthorizationRequest) -> str:
        """An authorization code for a job, from any thread. Raises NotConnected."""
        # Without ``ask``, this thread may use the database itself.
        code: str = self.ask(request) if self.ask else self.grants([request])[0]
        return code

    def before_work(self) -> None:
        recognition(self.lms).load(self.known_accounts)

    def recognise(self) -> None:
        """Called before anything is sent. Raises TooManyMissing when another LMS answers."""
        if not self.evidence.accept_missing:
            recognition(self.lms).check(self.lms)

    def prove(self) -> None:
        """Called before a refusal counts. Raises LmsError unless the known LMS answers now."""
        if self.evidence.accept_missing:
            self.lms.confirm_lms()
        else:
            recognition(self.lms).prove(self.lms)

    def refresh(self) -> Self | None:
        if self.batch_is_known:
            return None
        batch = capabilities(self.lms)
        return None if batch is None else replace(self, batch=batch, batch_is_known=True)

    def for_jobs(self, ask: Ask) -> Self:
        return replace(self, ask=ask)

    def answers(self, questions: Sequence[AuthorizationRequest]) -> list[str]:
        return self.grants(list(questions))

    @contextmanager
    def working_on(
        self, kind: str, rows: int, *, is_urgent: bool, before_sending: Callable[[], None]
    ) -> Iterator[Span]:
        with (
            urgent() if is_urgent else nullcontext(),
            sending_only_if(before_sending),
            span(f"reconcile {kind}", usher__kind=kind, usher__rows=rows) as current,
        ):
            yield current
