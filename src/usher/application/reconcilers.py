"""Registers the LMS and this application's kinds of objects with the engine."""

from __future__ import annotations

import time

from usher.application import conf, retention
from usher.application.accounts.kinds import AccountKind, ProfileKind, RetirementKind
from usher.application.accounts.services import known_accounts
from usher.application.enrollments.kinds import EnrollmentKind
from usher.application.lms import changes, outages
from usher.application.lms.context import LmsContext
from usher.application.lms.evidence import Evidence
from usher.application.lms.options import options
from usher.application.lms_client import client
from usher.application.records.kinds import CertificateKind, GradeKind
from usher.application.runs.kinds import ModeKind, RunKind
from usher.application.tokens.kinds import TokenKind
from usher.application.tokens.provider import grant_codes
from usher.client.batch import capabilities
from usher.client.shared import SharedState
from usher.contract.paths import ApplicationPath
from usher.engine import registry
from usher.engine.errors import KnownError
from usher.engine.other_system import OtherSystem

#: In the order in which they are processed: a kind comes after the kinds that it depends on.
KINDS = (
    AccountKind,
    TokenKind,
    RunKind,
    ModeKind,
    EnrollmentKind,
    ProfileKind,
    GradeKind,
    CertificateKind,
    RetirementKind,
)
#: Seconds before each further request whether the LMS has the batch API, if it did not answer.
_RETRY_PAUSES = (0.2, 0.5)


class Lms(OtherSystem):
    """The LMS that the settings name."""

    def context(self, *, accept_missing: bool = False) -> LmsContext:
        return lms_context(accept_missing=accept_missing)

    def state(self) -> SharedState:
        return client().http.state

    def before_sweep(self) -> None:
        retention.forget_due()
        changes.pull_changes()

    def advice(self, error: KnownError) -> str:
        return outages.advice(error)

    def is_down(self, error: KnownError) -> bool:
        return outages.is_down(error)


def lms_context(*, accept_missing: bool = False) -> LmsContext:
    """The context for one pass, or for jobs outside of a pass. Asks the LMS whether it has the
    batch API, unless the answer is known already. If the LMS does not answer, assumes that it has
    none."""
    lms = client()
    batch: frozenset[str] | None = frozenset()
    if options().use_batch_api:
        batch = capabilities(lms)
        for pause in _RETRY_PAUSES:
            if batch is not None:
                break
            time.sleep(pause)
            batch = capabilities(lms)
    return LmsContext(
        lms=lms,
        grants=grant_codes,
        batch=batch or frozenset(),
        # Codes for tokens are granted without a browser, so any registered redirect URI will do.
        redirect_uri=conf.settings().site_base_url + ApplicationPath.LANDINGS[0],
        evidence=Evidence(accept_missing=accept_missing),
        batch_is_known=batch is not None,
        known_accounts=known_accounts,
    )


def register() -> None:
    registry.register([kind() for kind in KINDS], Lms())
