"""How the engine reconciles learners' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from usher.application.accounts import waiting
from usher.application.accounts.creation import token_not_linked_yet
from usher.application.accounts.models import LmsAccount
from usher.application.audit.services import Event, record_many
from usher.application.lms.context import LmsContext
from usher.application.lms.kind import LmsKind
from usher.application.tokens import vault
from usher.application.tokens.models import LmsToken
from usher.application.tokens.store import encrypted_columns
from usher.client.authorization import AuthorizationFlow
from usher.client.errors import InvalidGrant, LmsError, SignInStopped
from usher.client.payloads import TokenPair
from usher.engine.kinds import Job, Outcome
from usher.engine.models import ReconciledQuerySet
from usher.engine.summary import Failure

#: Seconds: an access token that expires sooner is renewed when its row is processed.
RENEW_BEFORE_SECONDS = 3600
#: The error code of a token whose account the LMS's staff deactivated.
DEACTIVATED = "deactivated-in-lms"


class TokenKind(LmsKind):
    """Obtains and renews learners' tokens for the LMS. ``Kind`` says when each method is called."""

    name = "token"
    model = LmsToken
    observed_fields = ("access_token", "refresh_token", "scope", "expires_at")

    def prepare(
        self, rows: Sequence[LmsToken], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        ids = [row.user_id for row in rows]
        accounts = {row.user_id: row for row in LmsAccount.objects.filter(user_id__in=ids)}
        ids_with_account = {pk for pk, account in accounts.items() if account.is_ready}
        waiting_errors = waiting.errors_by_user(set(ids) - ids_with_account)
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            account = accounts.get(row.user_id)
            job = Job(row, self.display_name(row, account.username if account else ""))
            outcome = None
            if account is None or not account.is_ready:
                outcome = Outcome(error=waiting_errors[row.user_id], is_waiting=True)
            elif account.awaits_link:
                outcome = Outcome(error=token_not_linked_yet(account.username), is_waiting=True)
            elif account.is_deactivated_in_lms and account.is_settled:
                error = LmsError("The account is deactivated in the LMS.", code=DEACTIVATED)
                outcome = Outcome(error=error, is_waiting=True)
            elif row.is_settled and row.is_valid_for(RENEW_BEFORE_SECONDS):
                outcome = Outcome()  # the token need not be renewed
            prepared.append((job, outcome))
        return prepared

    def act(self, job: Job, context: LmsContext) -> Outcome:
        pair = renew(job.row, context)
        return Outcome(encrypted_columns(pair), changed=True)

    def lost(self) -> ReconciledQuerySet:
        """As in the base class, without tokens whose account does not exist yet: creating the
        account also obtains the token."""
        # Selects by ids, since an index of unsettled rows has the ids. With other columns
        # PostgreSQL expects most rows to be unsettled and reads the whole table.
        return self.rows().filter(
            pk__in=super().lost().values("pk"),
            user__lms_account__created_in_lms_at__isnull=False,
        )

    def settle_earlier_kinds(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Makes due the accounts of learners whose sign-in at the LMS failed, since their accounts
        may be missing in the LMS. Accounts that were refused stay refused."""
        LmsAccount.objects.not_refused().make_due_after(
            job.row for job, outcome in results if isinstance(outcome.error, SignInStopped)
        )

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        record_many(
            Event("lms-token", job.display_name) for job, outcome in results if outcome.changed
        )

    def before_recheck(self, user: Any = None, related_to: Any = None) -> Failure | None:
        """Makes due the tokens that expire soon, so that they are renewed."""
        renewal_limit = timezone.now() + timedelta(seconds=RENEW_BEFORE_SECONDS)
        LmsToken.objects.not_refused().filter(expires_at__lt=renewal_limit).make_due()
        return None


def renew(row: LmsToken, context: LmsContext) -> TokenPair:
    """Refreshes the learner's token, or obtains a new one by the authorization code flow. Does not
    use the database. Raises LmsError and, as ``LmsContext.grant``, NotConnected."""
    try:
        refresh_token = vault.decrypt(row.refresh_token)
    except vault.Unreadable:
        refresh_token = ""
    if refresh_token:
        try:
            return context.lms.refresh(refresh_token)
        except InvalidGrant:
            pass
    return AuthorizationFlow(context.lms, row.user_id, context.redirect_uri, context.grant).tokens()
