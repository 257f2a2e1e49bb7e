"""LMS accounts of learners: the functions that the rest of an application calls."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from usher.application.accounts import eligibility
from usher.application.accounts.details import details
from usher.application.accounts.models import LmsAccount, LmsProfile, Retirement
from usher.application.accounts.naming import is_reserved, reserve, reserve_for_link, reserve_many
from usher.application.adapter import AdapterFailed, adapter, eligible_among, log_failure
from usher.application.arguments import require_user, require_username
from usher.application.audit.services import Event, record_many
from usher.application.lms.evidence import sample_of
from usher.application.tokens.models import LmsToken
from usher.engine.clock import database_now
from usher.engine.lanes import background, current_lane
from usher.engine.models import lock, refresh_unless_deleted
from usher.engine.notify import notify_workers
from usher.engine.summary import Summary
from usher.engine.transactions import refuse_reconcile_now
from usher.engine.work import leases_of

__all__ = [
    "adopt",
    "deactivate",
    "ensure_account",
    "ensure_accounts",
    "follow_profile",
    "is_username_free",
    "is_worked_on",
    "known_accounts",
    "lms_username",
    "reactivate",
    "retire",
    "set_active",
    "usernames",
]


def ensure_account(user: Any, *, reconcile_now: bool = False) -> LmsAccount:
    """The learner's account row. If there is none, creates it and the row of its token, and makes
    the account due.

    A new account gets a username that the LMS accepts, reserved for this learner for good.
    reconcile_now: also create the account in the LMS before returning; ``is_ready`` says whether
    that succeeded. Raises InTransaction with ``reconcile_now`` within a transaction, AdapterFailed
    where the project's adapter fails, NoFreeName where every username that was tried is taken.
    """
    require_user(user)
    if reconcile_now:
        refuse_reconcile_now()
    account = LmsAccount.objects.filter(user=user).first() or _create_account(user)
    if reconcile_now and not account.is_ready:
        reconcile_account(user)
        refresh_unless_deleted(account)
    return account


def _create_account(user: Any) -> LmsAccount:
    """Creates the learner's account row, due now, and the row of the token. Raises AdapterFailed
    and NoFreeName."""
    try:
        with transaction.atomic():
            # If an earlier row was deleted, the learner still has the LMS account of that row, and
            # the new row gets its username.
            username = reserve(user, adapter().lms_username(user), reuse_own=True)
            now = database_now()
            account = LmsAccount(user=user, username=username, reserved_at=now)
            account.with_work(due_at=now, lane=current_lane()).save(force_insert=True)
            token = LmsToken(user=user).without_work()
            LmsToken.objects.bulk_create([token], ignore_conflicts=True)
            notify_workers(user.pk)
            return account
    except IntegrityError:  # another process created the row at the same time
        return LmsAccount.objects.get(user=user)


def ensure_accounts(*, batch: int = 1000) -> int:
    """Creates account rows for all eligible learners without one; returns how many. Reads ``batch``
    learners at a time, so that memory use stays constant."""
    users = get_user_model()._default_manager.filter(lms_account__isnull=True)
    return sum(_create_accounts(eligible) for eligible in eligible_among(users, slice_size=batch))


def _create_accounts(users: list[Any]) -> int:
    """Creates rows in bulk for learners whose own names are free, and one by one for the rest.
    Returns how many it created."""
    try:
        with transaction.atomic():
            done_in_bulk = _create_with_own_names(users)
    except IntegrityError:  # one of the names was taken in the meantime
        done_in_bulk = set()
    failed = 0
    with background():
        for user in users:
            if user.pk in done_in_bulk:
                continue
            try:
                _create_account(user)
            except AdapterFailed as error:
                log_failure(error)
                failed += 1
    return len(users) - failed


def _create_with_own_names(users: list[Any]) -> set[int]:
    """Creates rows for learners whose own names are free. Returns the ids of these learners. Raises
    IntegrityError as ``reserve_many``."""
    now = database_now()
    names_by_user = {}
    for user in users:
        with suppress(AdapterFailed):  # ``_create_accounts`` tries these learners again, and logs
            names_by_user[user.pk] = adapter().lms_username(user)
    names = reserve_many(names_by_user)
    LmsAccount.objects.bulk_create(
        [LmsAccount(user_id=pk, username=name, reserved_at=now) for pk, name in names.items()]
    )
    LmsToken.objects.bulk_create(
        [LmsToken(user_id=pk).without_work() for pk in names], ignore_conflicts=True
    )
    return set(names)


def retry_after_confirmation(user: Any) -> None:
    """Call after the learner confirmed their e-mail address: makes due the account and the profile
    that waited for the confirmation."""
    require_user(user)
    waiting = {"user": user, "work__error_code__in": eligibility.SENTENCES}
    LmsAccount.objects.filter(**waiting).make_due(lane=current_lane())
    LmsProfile.objects.filter(**waiting).make_due(lane=current_lane())
    notify_workers(user.pk)


def reconcile_account(user: Any) -> Summary:
    """Reconciles the learner's account and token now, even if they were refused before. Raises
    InTransaction within a transaction."""
    require_user(user)
    from usher.engine.services import reconcile

    LmsAccount.objects.filter(user=user).unsettled().make_due(lane=current_lane())
    LmsToken.objects.filter(user=user).unsettled().make_due(lane=current_lane())
    of_user = Q(user=user)
    made_due = {"account": of_user, "token": of_user}
    return reconcile(["account", "token"], user=user, made_due=made_due)


def lms_username(user: Any) -> str:
    """The learner's username in the LMS. Creates the account row, and so reserves a username, if
    there is none. Raises as ``ensure_account``."""
    return ensure_account(user).username


def is_username_free(username: str, *, user: Any = None) -> bool:
    """Whether a learner who signs up may have that name. Usernames of deleted learners stay
    reserved. user: ignores this learner's own reservations."""
    require_username(username)
    if user is not None:
        require_user(user)
    return not is_reserved(username, ignored_owner=user)


def adopt(user: Any, username: str, lms_user_id: int | None = None) -> LmsAccount:
    """Links an LMS account that existed before Usher to this learner. The operator must know that
    the account is the learner's. lms_user_id: the account's id in the LMS, if it is known.

    Raises ValueError when the username is or was another learner's, or when this learner has an
    LMS account already.
    """
    require_user(user)
    require_username(username)
    with transaction.atomic():
        account = LmsAccount.objects.filter(user=user).first()
        if account is not None:
            raise ValueError(f"the learner has the LMS account {account.username} already")
        reserve_for_link(username, user)
        now = timezone.now()
        account = LmsAccount(
            user=user,
            username=username,
            reserved_at=database_now(),
            created_in_lms_at=now,
            linked_at=now,
            lms_user_id=lms_user_id,
        )
        account.with_work(lane=current_lane()).save(force_insert=True)
        _, is_created = LmsToken.objects.get_or_create(user=user)
        if is_created:
            LmsToken.objects.filter(user=user).make_due(lane=current_lane())
        record_link(username)
        notify_workers(user.pk)
    return account


def record_link(username: str) -> None:
    """Writes to the audit log that an existing LMS account was linked to a learner in this
    application."""
    require_username(username)
    record_many([Event("lms-account-linked", username)])


def deactivate(user: Any, *, active: bool = False) -> LmsAccount:
    """Deactivates the learner's LMS account, as ``set_active`` with False.

    active: kept for existing code; in new code, call ``set_active``. Raises LmsAccount.DoesNotExist
    for a learner without an account.
    """
    return set_active(user, active=active)


def set_active(user: Any, *, active: bool) -> LmsAccount:
    """Sets whether the learner's LMS account is to be active. A worker then changes the account in
    the LMS; it does not activate an account that the LMS's staff deactivated (see ``reactivate``).
    Raises LmsAccount.DoesNotExist for a learner without an account."""
    require_user(user)
    with transaction.atomic():
        account = LmsAccount.objects.select_for_update().get(user=user)
        account.want(is_active=active)
    return account


def reactivate(user: Any) -> LmsAccount:
    """Activates the learner's LMS account even if the LMS's staff deactivated it. Raises
    LmsAccount.DoesNotExist for a learner without an account."""
    require_user(user)
    with transaction.atomic():
        account = LmsAccount.objects.select_for_update().get(user=user)
        if account.is_active:
            # Otherwise the next call would change nothing, and ``is_to_be_activated`` would be
            # false, since the row's generation stays the same.
            account.want(is_active=False)
        account.want(is_active=True)
    return account


def follow_profile(user: Any) -> None:
    """Call after a learner's name, country or e-mail changed: a worker sends the new values to the
    LMS.

    Does nothing if there is no LMS account yet: its creation will send the values of that time.
    Does not raise if the project's adapter fails, so that users can be saved. It logs the error and
    makes the account due; the profile is sent once the adapter succeeds.
    """
    require_user(user)
    account = LmsAccount.objects.filter(user=user, created_in_lms_at__isnull=False)
    if not account.exists():
        return
    try:
        current = details(user)
    except AdapterFailed as error:
        log_failure(error)
        account.make_due(lane=current_lane())
        return
    values: dict[str, Any] = {
        "name": current.name,
        "country": current.country,
        "email": current.email,
    }
    with transaction.atomic():
        row, is_created = LmsProfile.objects.select_for_update().get_or_create(
            user=user, defaults=values | {"lane": current_lane()}
        )
        if is_created:
            notify_workers(user.pk)
        else:
            row.want(**values)


def usernames(user_ids: Collection[int]) -> dict[int, str]:
    """Learner's id → LMS username."""
    accounts = LmsAccount.objects.filter(user_id__in=user_ids)
    return dict(accounts.values_list("user_id", "username"))


def known_accounts() -> tuple[int, list[str]]:
    """The number of accounts that were seen in the LMS, and a sample of their usernames."""
    return sample_of(LmsAccount.objects.filter(created_in_lms_at__isnull=False), "username")


def is_worked_on(user: Any) -> bool:
    """Whether a worker has claimed a row of the learner, so that requests may still reach the LMS.

    Must be called in a transaction. Locks the learner's rows, so that no worker can claim the rows
    before the transaction ends.
    """
    require_user(user)
    lease_ends: list[Any] = []
    for model in (LmsAccount, LmsToken, LmsProfile):
        rows = model.objects.filter(user=user)
        lock(rows)
        lease_ends += leases_of(model.work_kind, rows.values_list("pk", flat=True))
    now = database_now()
    return any(lease_end is not None and lease_end > now for lease_end in lease_ends)


def retire(user: Any) -> Retirement | None:
    """Call before a learner is deleted: makes due the deactivation of the LMS account. The username
    stays reserved. Returns None for a learner without an account row.

    An account that is not known to exist is retired as well: the LMS may have created the account
    although the answer to the request was lost. The retirement of such an account is due when the
    lease on the account's row ends, since a worker's request can reach the LMS until then.
    """
    require_user(user)
    account = LmsAccount.objects.filter(user=user).first()
    if account is None:
        return None
    due_at, values = database_now(), {}
    if not account.is_ready:
        values["reserved_at"] = account.reserved_at
        due_at = max(due_at, account.lease_until or due_at)
    row, _ = Retirement.objects.update_or_create(username=account.username, defaults=values)
    Retirement.objects.filter(pk=row.pk).make_due(due_at, lane=current_lane())
    row.forget_cached_work()
    notify_workers()
    return row


def retry_refused_without_batch_api() -> int:
    """Call once the LMS has the batch API: retries the rows that were refused because, without the
    batch API, a person had to change the LMS. Returns how many."""
    models = {
        "retirement-by-hand": Retirement,
        "deactivation-by-hand": LmsAccount,
        "activation-by-hand": LmsAccount,
    }
    return sum(
        model._default_manager.filter(
            work__refused_at__isnull=False, work__error_code=code
        ).make_due()
        for code, model in models.items()
    )
