"""Learners' names, e-mail addresses and countries in the LMS that differ from the application's.

No column of the application shows which learners differ, so all are compared, 100 in each request.
The application's own code sends a change only once, when the change is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import ObservedAccount, TokenPair
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import Adapter, Selection, user_condition
from usher.sidecar.learners import Learner, read_learners
from usher.sidecar.public_accounts import PublicAccounts
from usher.sidecar.session import Session
from usher.sidecar.summary import DONE, REFUSED, RowMemory, Summary

PROFILE = "profile"


@dataclass(frozen=True)
class ComparedLearner:
    """A learner whose profile was compared. changes: ``name``, ``email`` or ``country`` → the
    application's value, for the values that differ in the LMS."""

    learner: Learner
    changes: dict[str, str]


def find_differing(
    session: Session,
    *,
    user: str = "",
    changed_within_seconds: float | None = None,
    memory: RowMemory | None = None,
) -> Iterator[list[ComparedLearner]]:
    """Yields pages of differing learners with an account. user: only this user; '' for all.
    changed_within_seconds: only users that changed in that time; None for all. memory: used with
    ``changed_within_seconds``, to leave out users that have not changed since they agreed with the
    LMS."""
    recent_memory = memory if changed_within_seconds is not None else None

    def must_compare(learner: Learner) -> bool:
        if not learner.has_account or not learner.username:
            return False
        if recent_memory is None:
            return True
        return not recent_memory.has_agreed_with_lms(PROFILE, learner.pk, _profile_of(learner))

    selection = _select_learners(session, user, changed_within_seconds)
    for page in read_learners(session.agent, session.adapter, selection=selection):
        learners = [learner for learner in page if must_compare(learner)]
        accounts = {}
        if learners:
            accounts = session.lms.accounts([learner.username for learner in learners])
        differing = []
        for learner in learners:
            account = accounts.get(learner.username)
            if account is None:
                continue  # the account is missing in the LMS
            changes = _profile_changes(session.adapter, learner, account)
            if changes:
                differing.append(ComparedLearner(learner, changes))
            elif recent_memory is not None:
                recent_memory.record_agreement(PROFILE, learner.pk, _profile_of(learner))
        yield differing


def _profile_of(learner: Learner) -> tuple[str, ...]:
    """Returns the values that are compared with the LMS."""
    return learner.username, learner.name, learner.email, learner.country


def _select_learners(
    session: Session, user: str, changed_within_seconds: float | None
) -> Selection:
    selection = session.adapter.eligible_users
    if user:
        selection = selection.narrowed_by(user_condition(user))
    if changed_within_seconds is not None:
        selection = selection.narrowed_by(session.adapter.changed_profiles(changed_within_seconds))
    return selection


def _profile_changes(
    adapter: Adapter, learner: Learner, account: ObservedAccount
) -> dict[str, str]:
    """Returns the values that differ, as ``ComparedLearner.changes``; {} for an inactive account,
    which the LMS's staff may have banned."""
    if not account.is_active:
        return {}
    differing = {}
    if learner.name != account.name:
        differing["name"] = learner.name
    if learner.email.casefold() != account.email.casefold():
        differing["email"] = learner.email
    if learner.country_code != account.country:
        differing["country"] = learner.country_code
    # A value that the application lacks, or does not send, is left to the LMS.
    return {
        field: value
        for field, value in differing.items()
        if value and field in adapter.profile_fields
    }


def count_differing(session: Session, user: str = "") -> int:
    return sum(len(page) for page in find_differing(session, user=user))


def reconcile_profiles(
    session: Session,
    summary: Summary,
    *,
    batched: bool,
    user: str = "",
    changed_within_seconds: float | None = None,
) -> None:
    """Sends the values that differ. user, changed_within_seconds: as for ``find_differing``. Raises
    LmsError if the LMS refuses all learners for the same reason."""
    with PublicAccounts(session) as public_accounts:
        pages = find_differing(
            session,
            user=user,
            changed_within_seconds=changed_within_seconds,
            memory=summary.row_memory,
        )
        for page in pages:
            due = [
                compared
                for compared in page
                if summary.row_memory.is_due(PROFILE, compared.learner.retry_key)
            ]
            if due:
                if batched:
                    errors = _update_with_batch_api(session, due)
                else:
                    errors = _update_with_public_api(session, public_accounts, due)
                _verify_and_record(session, due, errors, summary)
            summary.report_progress()


def _update_with_batch_api(session: Session, due: list[ComparedLearner]) -> dict[Any, LmsError]:
    """Updates profiles in batches; then again, without the refused values, those of whom the LMS
    refused the name or country. Returns primary key → error of all that failed at first."""
    items = [
        {
            "id": compared.learner.pk,
            "username": compared.learner.username,
            "email": compared.learner.email,
            # '' leaves the LMS's value.
            "name": compared.learner.name,
            "country": compared.changes.get("country", ""),
            "tokens": False,
        }
        for compared in due
    ]
    results = batch.send(session.lms, batch.ACCOUNTS, items)
    errors: dict[Any, LmsError] = {}
    for item in items:
        key = item["id"]
        try:
            result = batch.result_of(results, key)
        except LmsError as error:
            errors[key] = error
        else:
            if result["error"]:
                errors[key] = batch.refusal_of(result)
    corrected_items = batch.corrected_items(items, results)
    if corrected_items:
        # The results are not read: the caller compares the accounts again.
        batch.send(session.lms, batch.ACCOUNTS, corrected_items)
    return errors


def _update_with_public_api(
    session: Session, public_accounts: PublicAccounts, due: list[ComparedLearner]
) -> dict[Any, LmsError]:
    """Signs in on each learner's behalf, which updates the e-mail address in the LMS. Changes the
    other values with the learner's own token, since the LMS accepts no other token for them.
    Returns primary key → error of those that failed. Raises an LmsError that concerns all
    learners."""
    changes = {compared.learner.pk: compared.changes for compared in due}

    def change_other_values(learner: Learner, tokens: TokenPair) -> None:
        other_changes = dict(changes[learner.pk])
        other_changes.pop("email", None)
        if other_changes:
            session.lms.change_account(learner.username, other_changes, tokens.access_token)

    learners = [compared.learner for compared in due]
    errors: dict[Any, LmsError] = {}
    for key, error in public_accounts.sign_in_each(learners, change_other_values).items():
        if error is None:
            continue
        if error.failure_class is FailureClass.SYSTEMIC:
            raise error
        errors[key] = error
    return errors


def _verify_and_record(
    session: Session, due: list[ComparedLearner], errors: dict[Any, LmsError], summary: Summary
) -> None:
    """Reads the accounts again, because a sign-in changes different fields in different releases of
    the LMS. Records the accounts that now agree as done, those with another error than a refusal
    with that error, and the others as refused. errors: primary key → error of the update, which
    may be a sign-in."""
    accounts = session.lms.accounts([compared.learner.username for compared in due])
    for compared in due:
        learner = compared.learner
        error = errors.get(learner.pk)
        # Refused updates are compared below, because some of their values may have changed.
        if error is not None and error.failure_class is not FailureClass.REJECTED:
            summary.add_error(PROFILE, learner.shown_name, error, learner.retry_key)
            continue
        still_different = compared.changes
        account = accounts.get(learner.username)
        if account is not None:
            still_different = _profile_changes(session.adapter, learner, account)
        if not still_different:
            summary.add(PROFILE, DONE, retry_key=learner.retry_key)
            continue
        reason = f"the LMS kept its own {' and '.join(sorted(still_different))}"
        code = request_id = ""
        if error is not None:
            reason = f"{reason}: {error} ({error.code})"
            code, request_id = error.code, error.request_id
        summary.add(
            PROFILE,
            REFUSED,
            learner.shown_name,
            reason,
            code=code,
            request_id=request_id,
            retry_key=learner.retry_key,
        )
