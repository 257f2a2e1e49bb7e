"""How the engine reconciles accounts, profiles and retirements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import F, Q

from usher.application.accounts import creation, eligibility, waiting
from usher.application.accounts.details import Details, details
from usher.application.accounts.models import LmsAccount, LmsProfile, Retirement
from usher.application.accounts.naming import NoFreeName, reserve
from usher.application.accounts.services import follow_profile, known_accounts
from usher.application.adapter import AdapterFailed, adapter
from usher.application.audit.services import Event, record_many
from usher.application.enrollments.models import Enrollment
from usher.application.lms.context import LmsContext
from usher.application.lms.kind import LmsKind
from usher.application.lms.options import APPLICATION, options
from usher.application.tokens import vault
from usher.application.tokens.kinds import DEACTIVATED
from usher.application.tokens.models import LmsToken
from usher.application.tokens.provider import create_registration_tokens, delete_registration_tokens
from usher.application.tokens.store import forget_tokens, store_tokens
from usher.client import batch
from usher.client.errors import AccessRefused, LmsError, NotThere, Refused
from usher.contract.failures import FailureClass
from usher.contract.limits import BATCH_ITEMS_A_REQUEST
from usher.engine.kinds import Job, Outcome
from usher.engine.lanes import Lane, user_ids_by_lane

#: How often a learner gets another username before the account counts as refused.
MAX_RENAMINGS = 10
#: The most characters of a row's error message.
_MESSAGE_LENGTH = 500
#: Seconds after which a registration request of a worker can no longer reach the LMS.
_REGISTRATION_MAX_SECONDS = 600.0
#: Seconds for which a learner's token must still be valid when a profile is sent with it.
_TOKEN_VALID_SECONDS = 60


class AccountKind(LmsKind):
    """Creates, checks, activates and deactivates LMS accounts. ``Kind`` says when each method is
    called."""

    name = "account"
    model = LmsAccount
    observed_fields = ("created_in_lms_at", "lms_user_id", "observed_is_active")
    batch_capability = batch.ACCOUNTS
    batch_size = BATCH_ITEMS_A_REQUEST
    related = ("user",)

    def prepare(
        self, rows: Sequence[LmsAccount], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        # Only for these rows does a missing account in the LMS need evidence.
        if any(row.is_ready or not row.is_active for row in rows):
            context.evidence.offer("account", known_accounts)
        by_batch = self.batch_capability in context.batch
        users_without_account = [row.user for row in rows if row.is_active and not row.is_ready]
        eligible_ids = eligibility.eligible_ids([user.pk for user in users_without_account])
        codes = eligibility.ineligibility_codes(
            [user for user in users_without_account if user.pk not in eligible_ids]
        )
        # Only a registration by the public API presents an access token of this application.
        needs_tokens = bool(eligible_ids) and not by_batch
        tokens = create_registration_tokens(eligible_ids) if needs_tokens else {}
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            outcome = None
            try:
                learner_details = details(row.user)
                if code := codes.get(row.user_id):
                    outcome = eligibility.outcome_of_unsent(
                        code, row.user, decide=adapter().is_eligible
                    )
            except AdapterFailed as error:
                prepared.append((Job(row, row.username), Outcome(error=error)))
                continue
            learner = creation.AccountData(
                account_id=row.pk,
                user_id=row.user_id,
                username=row.username,
                details=learner_details,
                reserved_at=row.reserved_at,
                created_in_lms_at=row.created_in_lms_at,
                is_active=row.is_active,
                lms_user_id=row.lms_user_id,
                registration_token=tokens.get(row.user_id, ""),
                reactivate=is_to_be_activated(row),
                awaits_link=row.awaits_link,
                attempts=row.attempts,
            )
            prepared.append((Job(row, row.username, learner), outcome))
        return prepared

    def act(self, job: Job, context: LmsContext) -> Outcome:
        return creation.create_or_check(job.data, context)

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        return creation.send_batch([job.data for job in jobs], context)

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """Saves the tokens of new accounts, makes due what waited for the accounts, gives learners
        another username where theirs was taken, and writes the audit log."""
        delete_registration_tokens(job.data.registration_token for job, _ in results if job.data)
        created = [
            (job.row, outcome.extra.tokens)
            for job, outcome in results
            if isinstance(outcome.extra, creation.NewAccount)
        ]
        store_tokens({row.user_id: tokens for row, tokens in created if tokens}, now)
        # Tokens that these learners have are of an earlier LMS account.
        rows_without_tokens = [row for row, tokens in created if not tokens]
        for lane, user_ids in user_ids_by_lane(rows_without_tokens).items():
            forget_tokens(user_ids, lane)
        _retry_enrollments([row for row, _ in created], now)
        # The retried enrollments then show that their learner's account was refused.
        _retry_enrollments(_newly_refused(results), now)
        successful = [job for job, outcome in results if outcome.error is None and job.data]
        _resend_changed_profiles(successful, now)
        _retry_tokens_of_activated(results, now)
        for job, outcome in results:
            if isinstance(outcome.error, creation.NameTaken):
                _rename(job.row, outcome.error, now)
        record_many(_events(results))

    def settle_deleted(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Retires the accounts of learners who were deleted while a worker sent a request about
        their accounts. That request may have reached the LMS after the retirement that the deletion
        requested."""
        for job, outcome in results:
            if job.is_begun or outcome.values.get("observed_is_active"):
                row = job.row
                values = {} if row.is_ready else {"reserved_at": row.reserved_at}
                retirement, _ = Retirement.objects.get_or_create(
                    username=row.username, defaults=values
                )
                Retirement.objects.filter(pk=retirement.pk).make_due()


def _events(results: Sequence[tuple[Job, Outcome]]) -> Iterator[Event]:
    """Changes in the LMS, and permanent refusals."""
    for job, outcome in results:
        error = outcome.error
        if error is None and (outcome.changed or _activation_changed(job.row, outcome)):
            yield Event(f"lms-account-{_change(job.row, outcome)}", job.row.username)
        elif error is not None and error.failure_class == FailureClass.REJECTED:
            yield Event(
                _refusal_event(job.row),
                job.row.username,
                succeeded=False,
                detail={"error_code": error.code},
            )


def _refusal_event(row: LmsAccount) -> str:
    """The name of the audit event when the LMS refuses the row's desired state."""
    if not row.is_ready:
        return "lms-account-refused"
    if not row.is_active:
        return "lms-account-deactivation-refused"
    is_activation = row.observed_is_active is False
    return f"lms-account-{'activation' if is_activation else 'change'}-refused"


def _activation_changed(row: LmsAccount, outcome: Outcome) -> bool:
    """Whether the account was activated or deactivated in the LMS since the row's last outcome: by
    the LMS's staff, or by a request for another record of the learner. row: with the values from
    before this outcome."""
    was_active, is_active = row.observed_is_active, outcome.values.get("observed_is_active")
    return was_active is not None and is_active is not None and was_active != is_active


def _change(row: LmsAccount, outcome: Outcome) -> str:
    """What happened to the account in the LMS, as the end of the audit event's name. row: with the
    values from before this outcome."""
    values = outcome.values
    created_in_lms_at = values.get("created_in_lms_at", row.created_in_lms_at)
    if row.is_ready and created_in_lms_at is None:
        return "missing"
    if created_in_lms_at != row.created_in_lms_at:
        return "created"
    if row.awaits_link:
        return "linked-in-lms"
    if not row.is_ready:
        return "deactivated"  # created by a request whose answer was lost
    if _activation_changed(row, outcome):
        is_active = values["observed_is_active"]
        by_staff = "-in-lms" if is_active != row.is_active else ""
        return f"{'activated' if is_active else 'deactivated'}{by_staff}"
    return "changed"


def is_to_be_activated(row: LmsAccount) -> bool:
    """Whether to activate an account that is inactive in the LMS.

    Yes when ``USHER_ACCOUNT_WINNER`` says so, or when somebody activated the account in this
    application since its row was last in sync. Otherwise an account that the LMS's staff
    deactivated stays inactive.
    """
    # Generation 1 is that of a new row, which nobody has changed yet.
    was_activated_here = not row.is_settled and row.generation > 1
    return row.is_active and (was_activated_here or options().account_winner == APPLICATION)


def _retry_tokens_of_activated(results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
    """Makes due the tokens that waited for an account to be active in the LMS."""
    active = [
        job.row.user_id
        for job, outcome in results
        if outcome.values.get("observed_is_active") and job.row.observed_is_active is False
    ]
    if active:
        LmsToken.objects.filter(user_id__in=active, work__error_code=DEACTIVATED).make_due(now)


def _retry_enrollments(accounts: Sequence[LmsAccount], now: datetime) -> None:
    """Makes due the enrollments that waited for these accounts, or failed without them.

    Also makes due all other enrollments of these learners that are neither in sync nor refused: a
    worker that has claimed one may have found no account, and not have written that result yet.
    """
    failed = Q(work__error_code__in=(*waiting.CODES, *waiting.NO_OWN_ACCOUNT))
    pending = Q(work__refused_at=None, observed_generation__lt=F("generation"))
    Enrollment.objects.filter(failed | pending).make_due_after(accounts, now)


def _newly_refused(results: Sequence[tuple[Job, Outcome]]) -> list[LmsAccount]:
    """Accounts that the LMS refused to create in this pass. Leaves out accounts whose username was
    taken: these get another username."""
    return [
        job.row
        for job, outcome in results
        if outcome.error is not None
        and outcome.error.failure_class == FailureClass.REJECTED
        and not isinstance(outcome.error, creation.NameTaken)
        and not job.row.is_ready
    ]


def _resend_changed_profiles(jobs: Sequence[Job], now: datetime) -> None:
    """Sends the profile again for learners whose name or e-mail changed while their account was
    created or checked: the older values may have reached the LMS last. Does the same for learners
    for whom the project's adapter had failed before."""
    sent_details = {job.row.user_id: job.data.details for job in jobs}
    if not sent_details:
        return
    adapter_failed = {
        job.row.user_id for job in jobs if job.row.error_code == AdapterFailed.default_code
    }
    changed = []
    for user in get_user_model()._default_manager.filter(pk__in=sent_details):
        try:
            differs = details(user) != sent_details[user.pk] or user.pk in adapter_failed
        except AdapterFailed:
            differs = True
        if differs:
            follow_profile(user)
            changed.append(user)
    if changed:
        profiles = LmsProfile.objects.filter(user__in=changed)
        # Without observed values, name and country are sent again. First the rows, then their work:
        # all code locks them in this order.
        profiles.update(observed_name="", observed_country="")
        profiles.make_due(now)


def _rename(row: LmsAccount, error: creation.NameTaken, now: datetime) -> None:
    """Reserves another username for a learner whose username is taken in the LMS, and makes the
    account due; marks the account as refused when there is no free name. If the project's adapter
    fails, stores its error, and the account is retried with its old username."""
    rows = LmsAccount.objects.filter(pk=row.pk)
    try:
        if row.renamings >= MAX_RENAMINGS:
            raise NoFreeName(f"{MAX_RENAMINGS} names were tried.")
        name = reserve(row.user, adapter().lms_username(row.user), error.suggestions)
    except NoFreeName as problem:
        rows.set_work(refused_at=now, due_at=None, error_message=str(problem)[:_MESSAGE_LENGTH])
        return
    except AdapterFailed as failure:  # the retry finds the name taken and calls the adapter again
        rows.set_work(error_code=failure.code, error_message=failure.message[:_MESSAGE_LENGTH])
        return
    rows.update(username=name, reserved_at=now, renamings=row.renamings + 1)
    rows.make_due(now, lane=Lane(row.lane))


def _outcome_of_unconfirmed(row: LmsProfile) -> Outcome:
    """The outcome of a profile whose new e-mail address the learner has not confirmed."""
    try:
        return eligibility.outcome_of_unsent(
            eligibility.UNCONFIRMED, row.user, decide=adapter().is_confirmed
        )
    except AdapterFailed as error:
        return Outcome(error=error)


@dataclass(frozen=True)
class _Profile:
    """The data of a profile's job. token: the learner's access token, '' for none. desired: the
    details to send. observed: the details that were last seen in the LMS. is_active: whether the
    account is to be active in the LMS."""

    username: str
    token: str = field(repr=False)
    desired: Details
    observed: Details
    is_active: bool


class ProfileKind(LmsKind):
    """Sends changed names, countries and e-mail addresses of learners who have an LMS account."""

    name = "profile"
    model = LmsProfile
    observed_fields = ("observed_name", "observed_country", "observed_email")
    batch_capability = batch.ACCOUNTS
    batch_size = BATCH_ITEMS_A_REQUEST

    def prepare(
        self, rows: Sequence[LmsProfile], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        context.evidence.offer("account", known_accounts)
        ids = [row.user_id for row in rows]
        accounts = {row.user_id: row for row in LmsAccount.objects.filter(user_id__in=ids)}
        ids_with_account = {pk for pk, account in accounts.items() if account.is_ready}
        waiting_errors = waiting.errors_by_user(set(ids) - ids_with_account)
        tokens = {row.user_id: row for row in LmsToken.objects.filter(user_id__in=ids)}
        by_batch = self.batch_capability in context.batch
        ids_with_new_email = [row.user_id for row in rows if row.email != row.observed_email]
        confirmed_ids = eligibility.confirmed_ids(ids_with_new_email)
        prepared: list[tuple[Job, Outcome | None]] = []
        rows_without_token = []
        for row in rows:
            account, token = accounts.get(row.user_id), tokens.get(row.user_id)
            display_name = self.display_name(row, account.username if account else "")
            if account is None or not account.is_ready:
                outcome = Outcome(error=waiting_errors[row.user_id], is_waiting=True)
                prepared.append((Job(row, display_name), outcome))
                continue
            if row.email != row.observed_email and row.user_id not in confirmed_ids:
                prepared.append((Job(row, display_name), _outcome_of_unconfirmed(row)))
                continue
            token_is_usable = token is not None and token.is_valid_for(_TOKEN_VALID_SECONDS)
            if not by_batch and not token_is_usable:
                rows_without_token.append(row)
                error = LmsError(
                    "The record waits until the learner's token is renewed.", code="no-token"
                )
                prepared.append((Job(row, display_name), Outcome(error=error, is_waiting=True)))
                continue
            profile = _profile(row, account, token, token_is_usable)
            prepared.append((Job(row, display_name, profile), None))
        LmsToken.objects.not_refused().make_due_after(rows_without_token)
        return prepared

    def act(self, job: Job, context: LmsContext) -> Outcome:
        """Uses the learner's own token. The public API cannot change an e-mail address: the LMS
        asks the learner to confirm a new one."""
        data: _Profile = job.data
        changes = {}
        for name in ("name", "country"):
            desired_value = getattr(data.desired, name)
            if desired_value and desired_value != getattr(data.observed, name):
                changes[name] = desired_value
        try:
            refusal = _change_account(context, data, changes) if changes else None
        except AccessRefused as error:
            # The learner's token was refused, not the service worker's: only this row fails.
            raise LmsError("The LMS refuses the learner's token.", code=error.code) from error
        # Shows whether the account still exists, and its e-mail address.
        account = context.lms.account(data.username)
        if account is None:
            creation.require_known_accounts(context)
            # A temporary failure: the account will be created again.
            raise LmsError(f"The LMS has no account named {data.username}.", code="not-found")
        if data.desired.email and account.email.lower() != data.desired.email.lower():
            raise Refused(
                "The LMS changes an e-mail only when its owner confirms it there: "
                "install usher.lms, or change it in the LMS's admin.",
                code="email-needs-usher-lms",
            )
        if refusal:
            raise refusal
        return Outcome(_observed_values(data.desired), changed=bool(changes))

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        items = [
            creation.batch_item(
                job.row.pk, job.data.username, job.data.desired, is_active=job.data.is_active
            )
            for job in jobs
        ]
        client_id = context.lms.who.client_id
        results = batch.send(context.lms, batch.ACCOUNTS, items, client_id=client_id)
        if corrected_items := batch.corrected_items(items, results):
            # The results are not read, because these rows are refused all the same.
            batch.send(context.lms, batch.ACCOUNTS, corrected_items, client_id=client_id)
        return [_profile_outcome(job, results) for job in jobs]

    def settle_earlier_kinds(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Makes due the accounts that the LMS does not have, so that they are created again."""
        LmsAccount.objects.not_refused().make_due_after(
            job.row
            for job, outcome in results
            if outcome.error and outcome.error.code == "not-found"
        )


def _profile(
    row: LmsProfile, account: LmsAccount, token: LmsToken | None, token_is_usable: bool
) -> _Profile:
    return _Profile(
        username=account.username,
        token=vault.decrypt(token.access_token) if token and token_is_usable else "",
        desired=Details(email=row.email, name=row.name, country=row.country),
        observed=Details(
            email=row.observed_email, name=row.observed_name, country=row.observed_country
        ),
        is_active=account.is_active,
    )


def _change_account(
    context: LmsContext, data: _Profile, changes: Mapping[str, str]
) -> Refused | None:
    """Sends changes with the learner's token. If the LMS refuses them together, sends each alone,
    because one that it refuses must not hold back the others. Returns the first refusal, or None.
    Raises LmsError for any other error."""
    try:
        context.lms.change_account(data.username, changes, data.token)
        return None
    except NotThere:
        raise
    except Refused as refusal:
        if len(changes) == 1:
            return refusal
    refusals = [_change_account(context, data, {name: value}) for name, value in changes.items()]
    return next(filter(None, refusals), None)


def _observed_values(details: Details) -> dict[str, str]:
    return {
        "observed_name": details.name,
        "observed_country": details.country,
        "observed_email": details.email,
    }


def _profile_outcome(job: Job, results: dict[Any, dict[str, Any]]) -> Outcome:
    """The profile's outcome from the batch API's results: row's id → result."""
    try:
        result = batch.result_of(results, job.row.pk)
    except LmsError as error:
        return Outcome(error=error)
    if result["status"] == "refused":
        return Outcome(error=batch.refusal_of(result))
    return Outcome(_observed_values(job.data.desired), changed=result["status"] == "updated")


class RetirementKind(LmsKind):
    """Deactivates the LMS accounts of deleted learners."""

    name = "retirement"
    model = Retirement
    batch_capability = batch.ACCOUNTS
    batch_size = BATCH_ITEMS_A_REQUEST
    user_field = ""

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        record_many(
            Event("lms-account-retired", job.row.username)
            for job, outcome in results
            if outcome.changed
        )

    def prepare(
        self, rows: Sequence[Retirement], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        context.evidence.offer("account", known_accounts)
        return [(Job(row, row.username), None) for row in rows]

    def act(self, job: Job, context: LmsContext) -> Outcome:
        """Deactivates the account by the public API, if the LMS has an active one."""
        if creation.active_account(job.row.username, job.row.reserved_at, context) is None:
            return _outcome_without_active_account(job.row)
        try:
            context.lms.deactivate_account(job.row.username)
        except (AccessRefused, NotThere) as error:
            raise Refused(
                f"The LMS does not let the service worker deactivate {job.row.username}: install "
                "usher.lms, or retire the account in the LMS's admin and then mark this retirement "
                "as done in the application's admin.",
                code="retirement-by-hand",
            ) from error
        return Outcome(changed=True)

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        """Deactivates accounts by the batch API, with one request for each account."""
        outcomes = []
        for job in jobs:
            account = creation.active_account(job.row.username, job.row.reserved_at, context)
            if account is None:
                outcomes.append(_outcome_without_active_account(job.row))
                continue
            # The details that the LMS has, since the request also sets these.
            details = Details(email=account.email, name=account.name, country=account.country)
            results = batch.send(
                context.lms,
                batch.ACCOUNTS,
                [creation.batch_item(job.row.pk, job.row.username, details, is_active=False)],
                client_id=context.lms.who.client_id,
            )
            result = batch.result_of(results, job.row.pk)
            is_refused = result["status"] == "refused"
            error = batch.refusal_of(result) if is_refused else None
            if error and job.row.reserved_at and error.code in creation.TAKEN_CODES:
                error = None  # the LMS account is not linked to this application's learner
            outcomes.append(Outcome(changed=not is_refused, error=error))
        return outcomes


def _outcome_without_active_account(row: Retirement) -> Outcome:
    """The outcome of a retirement when the LMS has no active account. If the account was never
    known to exist, the LMS is asked once more later: a killed worker's registration request may
    still reach the LMS."""
    may_still_be_created = row.reserved_at is not None and not row.is_settled
    return Outcome(next_in=_REGISTRATION_MAX_SECONDS if may_still_be_created else None)
