"""Learners' names, e-mail addresses and countries in the LMS that differ from the application's.

No column of the application shows that these are due, so every learner is compared, 100 in each
request. The application's own code sends each change only once, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import AccountSeen, TokenPair
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import Adapter, Selection
from usher.sidecar.learners import Learner, learners
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import DONE, REFUSED, Memory, Outcome
from usher.sidecar.public_accounts import PublicAccounts

PROFILE = "profile"


@dataclass(frozen=True)
class Differing:
    """changes: ``name``, ``email`` or ``country`` → the application's value."""

    learner: Learner
    changes: dict[str, str]


def differing(
    sides: Opened,
    user: str = "",
    changed_in: float | None = None,
    memory: Memory | None = None,
) -> Iterator[list[Differing]]:
    """Yields pages of differing learners with an account. changed_in: only users that changed in
    the last so many seconds; None for all. memory: of these, leaves out those that have not changed
    since they agreed with the LMS."""
    short = memory if changed_in is not None else None
    for page in learners(sides.agent, sides.adapter, only=_selected(sides, user, changed_in)):
        named = [
            learner
            for learner in page
            if learner.made
            and learner.username
            and (short is None or not short.is_right(PROFILE, learner.pk, _sent(learner)))
        ]
        seen = sides.lms.accounts([learner.username for learner in named]) if named else {}
        found = [
            Differing(learner, _changes(sides.adapter, learner, seen[learner.username]))
            for learner in named
            if learner.username in seen
        ]
        if short is not None:
            for each in found:
                if not each.changes:
                    short.found_right(PROFILE, each.learner.pk, _sent(each.learner))
        yield [each for each in found if each.changes]


def _sent(learner: Learner) -> tuple[str, ...]:
    return learner.username, learner.name, learner.email, learner.country


def _selected(sides: Opened, user: str, changed_in: float | None) -> Selection:
    found = sides.adapter.users_taken
    if user:
        found = found.also([{"email": user}, {"username": user}])
    if changed_in is not None:
        found = found.also(sides.adapter.changed_profiles(changed_in))
    return found


def _changes(adapter: Adapter, learner: Learner, seen: AccountSeen) -> dict[str, str]:
    """Returns what differs; nothing for an inactive account, which the LMS's staff may have
    banned."""
    if not seen.is_active:
        return {}
    found = {}
    if "name" in adapter.profile and learner.name and learner.name != seen.name:
        found["name"] = learner.name
    if "email" in adapter.profile and learner.email.casefold() != seen.email.casefold():
        found["email"] = learner.email
    country = learner.country if len(learner.country) == 2 else ""
    if "country" in adapter.profile and country and country != seen.country:
        found["country"] = country
    return found


def count_differing(sides: Opened, user: str = "") -> int:
    return sum(len(page) for page in differing(sides, user))


def reconcile_profiles(
    sides: Opened,
    outcome: Outcome,
    *,
    batched: bool,
    user: str = "",
    changed_in: float | None = None,
) -> None:
    """Sends the details that differ. Raises LmsError if the LMS refuses all learners for the same
    reason."""
    with PublicAccounts(sides) as public:
        for page in differing(sides, user, changed_in, outcome.memory):
            due = [each for each in page if outcome.memory.is_due(PROFILE, each.learner.content)]
            if due:
                errors = _by_batch(sides, due) if batched else _by_public_api(sides, public, due)
                _verify(sides, due, errors, outcome)
            outcome.told()


def _by_batch(sides: Opened, due: list[Differing]) -> dict[Any, LmsError]:
    """Updates profiles in batches. Returns primary key → error of those that failed."""
    items = [
        {
            "id": each.learner.pk,
            "username": each.learner.username,
            "email": each.learner.email,
            "name": each.learner.name or each.learner.username,
            "country": each.changes.get("country", ""),
            "tokens": False,
        }
        for each in due
    ]
    results = batch.send(sides.lms, batch.ACCOUNTS, items)
    errors: dict[Any, LmsError] = {}
    for each in due:
        try:
            result = batch.result_of(results, each.learner.pk)
        except LmsError as problem:
            errors[each.learner.pk] = problem
            continue
        if result["error"]:
            errors[each.learner.pk] = batch.refused(result)
    return errors


def _by_public_api(
    sides: Opened, public: PublicAccounts, due: list[Differing]
) -> dict[Any, LmsError]:
    """Signs in on each learner's behalf, which updates the e-mail address in the LMS, and changes
    the rest with the learner's own token, since the LMS accepts no other. Returns the errors."""

    changes = {each.learner.pk: each.changes for each in due}

    def change(learner: Learner, tokens: TokenPair) -> None:
        rest = {name: value for name, value in changes[learner.pk].items() if name != "email"}
        if rest:
            sides.lms.change_account(learner.username, rest, tokens.access_token)

    errors: dict[Any, LmsError] = {}
    for key, error in public.signed_in([each.learner for each in due], change).items():
        if error is not None and error.failure_class is FailureClass.SYSTEMIC:
            raise error
        if error is not None:
            errors[key] = error
    return errors


def _verify(
    sides: Opened, due: list[Differing], errors: dict[Any, LmsError], outcome: Outcome
) -> None:
    """Reads the accounts again and records those that now agree as done: releases of the LMS differ
    in what a sign-in changes."""
    seen = sides.lms.accounts([each.learner.username for each in due])
    for each in due:
        learner, error = each.learner, errors.get(each.learner.pk)
        if error is not None and error.failure_class is not FailureClass.REJECTED:
            outcome.add_error(PROFILE, learner.email, error, learner.content)
            continue
        found = seen.get(learner.username)
        left = _changes(sides.adapter, learner, found) if found else each.changes
        if not left:
            outcome.add(PROFILE, DONE, key=learner.content)
            continue
        told, code, request_id = f"the LMS kept its own {' and '.join(sorted(left))}", "", ""
        if error is not None:
            told, code, request_id = f"{told}: {error} ({error.code})", error.code, error.request_id
        outcome.add(PROFILE, REFUSED, learner.email, told, code, request_id, learner.content)
