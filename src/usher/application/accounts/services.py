"""LMS accounts of learners: what the rest of an application calls."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from usher.application.accounts.details import details
from usher.application.accounts.models import LmsAccount, LmsProfile, Retirement
from usher.application.accounts.naming import is_reserved, reserve, reserve_many
from usher.application.adapter import AdapterFailed, adapter, eligible_among, log_failure
from usher.application.lms.evidence import sample_of
from usher.application.tokens.models import LmsToken
from usher.engine.clock import database_now
from usher.engine.lanes import background, current_lane
from usher.engine.models import lock
from usher.engine.notify import notify_workers
from usher.engine.summary import Summary
from usher.engine.transactions import refuse_within_transaction
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
    "usernames",
]


def ensure_account(user: Any, *, reconcile_now: bool = False) -> LmsAccount:
    """The learner's account row, created if absent, with the row of its token; both are then due.

    The username is cleaned, unique, and reserved at once. ``reconcile_now`` also makes
    the account in the LMS before returning; ``is_ready`` says whether that worked. It raises
    InTransaction within a transaction.
    """
    if reconcile_now:
        refuse_within_transaction()
    account = LmsAccount.objects.filter(user=user).first() or _make(user)
    if reconcile_now and not account.is_ready:
        reconcile_account(user)
        account.refresh_from_db()
    return account


def _make(user: Any) -> LmsAccount:
    try:
        with transaction.atomic():
            username = reserve(user, adapter().lms_username(user))
            now = database_now()
            account = LmsAccount(user=user, username=username, reserved_at=now)
            account.with_work(due_at=now, lane=current_lane()).save(force_insert=True)
            token = LmsToken(user=user).without_work()
            LmsToken.objects.bulk_create([token], ignore_conflicts=True)
            notify_workers(user.pk)
            return account
    except IntegrityError:
        return LmsAccount.objects.get(user=user)


def ensure_accounts(*, batch: int = 1000) -> int:
    """Rows for all eligible learners that have none; how many were made. Memory stays flat."""
    users = get_user_model()._default_manager.filter(lms_account__isnull=True)
    return sum(_make_many(found) for found in eligible_among(users, slice_of=batch))


def _make_many(users: list[Any]) -> int:
    """Those whose own names are free, together; the others one by one. How many were made."""
    try:
        with transaction.atomic():
            easy = _make_easy(users)
    except IntegrityError:  # one of the names was taken in the meantime
        easy = set()
    failed = 0
    with background():
        for user in users:
            if user.pk in easy:
                continue
            try:
                _make(user)
            except AdapterFailed as error:
                log_failure(error)
                failed += 1
    return len(users) - failed


def _make_easy(users: list[Any]) -> set[int]:
    now = database_now()
    wanted = {}
    for user in users:
        with suppress(AdapterFailed):  # tried and told one by one
            wanted[user.pk] = adapter().lms_username(user)
    names = reserve_many(wanted)
    LmsAccount.objects.bulk_create(
        [LmsAccount(user_id=pk, username=name, reserved_at=now) for pk, name in names.items()]
    )
    LmsToken.objects.bulk_create(
        [LmsToken(user_id=pk).without_work() for pk in names], ignore_conflicts=True
    )
    return set(names)


def confirmed(user: Any) -> None:
    """The learner's e-mail address has been confirmed: what waited for that is due."""
    LmsAccount.objects.filter(user=user, work__error_code="unconfirmed").make_due(
        lane=current_lane()
    )
    LmsProfile.objects.filter(user=user, work__error_code="unconfirmed").make_due(
        lane=current_lane()
    )
    notify_workers(user.pk)


def reconcile_account(user: Any) -> Summary:
    """Reconciles the learner's account and token now, refused ones too."""
    from usher.engine.services import reconcile

    LmsAccount.objects.filter(user=user).unsettled().make_due(lane=current_lane())
    LmsToken.objects.filter(user=user).unsettled().make_due(lane=current_lane())
    own = Q(user=user)
    return reconcile(["account", "token"], user=user, asked={"account": own, "token": own})


def lms_username(user: Any) -> str:
    """The name by which the LMS knows the learner, made up if need be."""
    return ensure_account(user).username


def is_username_free(username: str, *, user: Any = None) -> bool:
    """Whether a learner who signs up may have that name: names of learners gone stay taken."""
    return not is_reserved(username, by_other_than=user)


def adopt(user: Any, username: str, lms_user_id: int | None = None) -> LmsAccount:
    """Says that an LMS account made before Usher is this learner's: the operator's decision.

    Raises ValueError when that name was given to somebody else.
    """
    if is_reserved(username, by_other_than=user):
        raise ValueError(f"{username} is, or was, the name of somebody else.")
    with transaction.atomic():
        account = LmsAccount.objects.filter(user=user).first()
        if account is not None:
            raise ValueError(f"The learner has the LMS account {account.username} already.")
        reserve(user, username)
        account = LmsAccount(
            user=user,
            username=username,
            reserved_at=database_now(),
            created_in_lms_at=timezone.now(),
            lms_user_id=lms_user_id,
        )
        account.with_work(lane=current_lane()).save(force_insert=True)
        _, made = LmsToken.objects.get_or_create(user=user)
        if made:
            LmsToken.objects.filter(user=user).make_due(lane=current_lane())
        notify_workers(user.pk)
    return account


def deactivate(user: Any, *, active: bool = False) -> LmsAccount:
    """Wants the learner's LMS account inactive (or active again)."""
    with transaction.atomic():
        account = LmsAccount.objects.select_for_update().get(user=user)
        account.want(is_active=active)
    return account


def reactivate(user: Any) -> LmsAccount:
    """Activates the learner's LMS account although the LMS's staff deactivated it."""
    with transaction.atomic():
        account = LmsAccount.objects.select_for_update().get(user=user)
        if account.is_active:
            account.want(is_active=False)
        account.want(is_active=True)
    return account


def follow_profile(user: Any) -> None:
    """After a learner's name, country or e-mail changed: wants the LMS to have the new ones.

    Before the LMS account is made there is nothing to do: it is made with what holds then. Where
    the project's adapter fails, saving a user goes on: the account's record fails and says why,
    and once it succeeds again, the profile follows.
    """
    account = LmsAccount.objects.filter(user=user, created_in_lms_at__isnull=False)
    if not account.exists():
        return
    try:
        now = details(user)
    except AdapterFailed as error:
        log_failure(error)
        account.make_due(lane=current_lane())
        return
    wanted = {"name": now.name, "country": now.country, "email": now.email}
    with transaction.atomic():
        row, made = LmsProfile.objects.select_for_update().get_or_create(
            user=user, defaults=wanted | {"lane": current_lane()}
        )
        if made:
            notify_workers(user.pk)
        else:
            row.want(None, **wanted)


def usernames(user_ids: Collection[int]) -> tuple[dict[int, str], set[int]]:
    """The LMS usernames of these learners, and those whose account the LMS is known to have."""
    rows = LmsAccount.objects.filter(user_id__in=user_ids)
    fields = ("user_id", "username", "created_in_lms_at", "observed_generation")
    found = list(rows.values_list(*fields))
    ready = {pk for pk, _, made_at, observed in found if made_at and observed}
    return {pk: name for pk, name, *_ in found}, ready


def known_accounts() -> tuple[int, list[str]]:
    """How many accounts were seen in the LMS, and the usernames of some of them."""
    return sample_of(LmsAccount.objects.filter(created_in_lms_at__isnull=False), "username")


def is_worked_on(user: Any) -> bool:
    """Whether a worker holds a row of the learner: what it has sent may still reach the LMS.

    Belongs in a transaction, during which none can begin with what is due.
    """
    leases: list[Any] = []
    for model in (LmsAccount, LmsToken, LmsProfile):
        rows = model.objects.filter(user=user)
        lock(rows)
        leases += leases_of(model.work_kind, rows.values_list("pk", flat=True))
    now = database_now()
    return any(until is not None and until > now for until in leases)


def retire(user: Any) -> Retirement | None:
    """Before a learner is deleted: wants the LMS account out of use; its name stays taken.

    Also when the account isn't known to be made, because the answer may have been lost. What a
    worker has sent about it can reach the LMS until the worker's lease ends.
    """
    account = LmsAccount.objects.filter(user=user).first()
    if account is None:
        return None
    due_at, wanted = database_now(), {}
    if not account.is_ready:
        wanted["reserved_at"] = account.reserved_at
        due_at = max(due_at, account.lease_until or due_at)
    row, _ = Retirement.objects.update_or_create(username=account.username, defaults=wanted)
    Retirement.objects.filter(pk=row.pk).make_due(due_at, lane=current_lane())
    row.forget_cached_work()
    notify_workers()
    return row


def make_due_by_hand() -> int:
    """Retries what needed a person while the LMS had no batch API; call it when it has one."""
    left = {
        "retirement-by-hand": Retirement,
        "deactivation-by-hand": LmsAccount,
        "activation-by-hand": LmsAccount,
    }
    return sum(
        model._default_manager.filter(
            work__parked_at__isnull=False, work__error_code=code
        ).make_due()
        for code, model in left.items()
    )
