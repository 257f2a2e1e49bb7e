"""Puts known faults back into the code: the simulation finds each fault within a thousand seeds.

Each mutation is the smallest change that restores a fault. A seed has found the fault if an
invariant breaks with the mutation, and no invariant breaks without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from simulation.run import Simulator, simulate

pytestmark = pytest.mark.slow

SEEDS = range(1, 1001)
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module", autouse=True)
def simulator() -> Iterator[None]:
    """Allows ``simulate`` in all tests of this module."""
    with Simulator():
        yield


def assert_found(mutation: Callable[[Patch], None], *expected_errors: str, first_seed: int) -> None:
    """Raises AssertionError unless a seed finds the mutation: the seed fails with the mutation, and
    not without it.

    expected_errors: parts of messages; the seed's error must contain one of them.

    first_seed: the seed to try first, because it found the mutation last time. A change of the
    engine changes the events of every seed, so that this seed may no longer find the mutation. Then
    all seeds are tried in order; write the seed that is printed to ``first_seed``.
    """
    for seed in (first_seed, *SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            mutation(patch)
            error = simulate(seed).error
        error_text = f"{type(error).__name__}: {error}"
        is_expected = any(expected in error_text for expected in expected_errors)
        if is_expected and simulate(seed).error is None:
            print(f"seed {seed}: {error_text}")
            return
    raise AssertionError(f"not found in {len(SEEDS)} seeds")


def test_releasing_rows_whose_request_was_sent_is_found():
    """A worker that is stopped releases rows although their requests were sent. Another worker
    claims them, and the first worker's request arrives last."""

    def mutation(patch: Patch) -> None:
        from usher.engine.runner import Runner

        def all_rows(self: Any) -> dict[Any, list[Any]]:
            """Counts begun jobs as not begun."""
            return {
                kind: [job.row for job in jobs.values()]
                for kind, jobs in self._claimed_jobs.items()
            }

        patch.setattr(Runner, "_unbegun_rows", all_rows)

    assert_found(mutation, "reaches the LMS while", "is forgotten", "in the end", first_seed=11)


def test_sending_requests_after_the_lease_is_found():
    """A worker that was suspended sends its request after another worker has claimed the row and
    sent the next change. Then it is killed, so that nothing checks the row again."""

    def mutation(patch: Patch) -> None:
        patch.setattr("usher.engine.runner._require_leases", lambda jobs: None)

    assert_found(mutation, "reaches the LMS while", "is forgotten", "in the end", first_seed=369)


def test_sending_a_request_within_a_transaction_is_found():
    """The LMS requests data from the application before it answers, and can't see rows that are not
    committed yet."""

    def mutation(patch: Patch) -> None:
        from usher.application.accounts import services as accounts
        from usher.application.enrollments import services as enrollments
        from usher.engine import services as engine

        # Without these checks, requests are sent within a transaction.
        for module in (accounts, enrollments):
            patch.setattr(module, "refuse_reconcile_now", lambda: None)
        patch.setattr(engine, "refuse_within_transaction", lambda: None)

    assert_found(mutation, "RequestInTransaction", first_seed=3)


def test_locking_tables_in_different_orders_is_found():
    """One write-back locks enrollments first and then accounts, another one in the opposite order.

    SQLite has one writer at a time, so the simulation has no deadlocks. It finds the fault in the
    order of the locks that PostgreSQL would take. ``test_transactions.py`` has real deadlocks, on
    PostgreSQL.
    """

    def mutation(patch: Patch) -> None:
        from usher.application.enrollments.kinds import EnrollmentKind

        original_settle_earlier_kinds = EnrollmentKind.settle_earlier_kinds
        original_settle = EnrollmentKind.settle

        def settle(self: Any, results: Any, now: Any) -> None:
            """Locks accounts after enrollments instead of before them."""
            original_settle(self, results, now)
            original_settle_earlier_kinds(self, results)

        patch.setattr(EnrollmentKind, "settle_earlier_kinds", lambda *_: None)
        patch.setattr(EnrollmentKind, "settle", settle)

    assert_found(mutation, "LockOrderBroken", first_seed=3)


def test_a_webhook_that_retries_refused_rows_is_found():
    """The message makes refused rows due again, and resets the number of attempts."""

    def mutation(patch: Patch) -> None:
        from usher.engine.models import ReconciledQuerySet

        # Unlike ``compare_again``, ``make_due`` clears errors and retries refused rows.
        patch.setattr(
            ReconciledQuerySet, "compare_again", lambda self, now=None: self.make_due(now)
        )

    assert_found(mutation, "a message of the LMS made", first_seed=13)


def test_marking_runs_as_missing_because_of_another_server_is_found():
    """Any server's answer counts as the LMS's, and objects that the answer lacks count as
    missing."""

    def mutation(patch: Patch) -> None:
        from usher.application.runs import sync
        from usher.client.errors import NotTheLms, NotThere
        from usher.engine.runner import Runner

        original_runs_by_key = sync.runs_by_key

        def runs_by_key(lms: Any, keys: Any) -> Any:
            """Takes the answer of another server as that of an LMS without these runs."""
            try:
                return original_runs_by_key(lms, keys)
            except (NotThere, NotTheLms):
                return {}

        patch.setattr(sync, "runs_by_key", runs_by_key)
        # Two further checks that would notice the other server are switched off.
        patch.setattr(sync, "require_known_runs", lambda lms, evidence: None)
        patch.setattr(Runner, "_verify_refusals", lambda self, outcomes: outcomes)

    assert_found(mutation, "is marked missing", "is refused as missing", first_seed=16)


def test_treating_accounts_as_lost_because_of_another_server_is_found():
    """Any server's answer counts as the LMS's, and accounts that the answer lacks count as lost."""

    def mutation(patch: Patch) -> None:
        from usher.application.accounts import creation
        from usher.client.client import LmsClient
        from usher.client.errors import NotTheLms

        request_accounts = LmsClient._request_accounts

        def accept_any_answer(self: Any, usernames: Any) -> Any:
            """Takes the answer of another server as that of an LMS without these accounts."""
            try:
                return request_accounts(self, usernames)
            except NotTheLms:
                return []

        patch.setattr(LmsClient, "_request_accounts", accept_any_answer)
        # Switches off a second check, which would notice the other server.
        patch.setattr(creation, "require_known_accounts", lambda context: None)

    assert_found(mutation, "counts as lost", first_seed=87)


def test_refusing_rows_because_of_another_server_is_found():
    """An error answer of any server counts as the LMS's refusal of the rows in the request."""

    def mutation(patch: Patch) -> None:
        from usher.client import batch, client
        from usher.engine.runner import Runner

        def json_or_not_there(lms: Any, answer: Any) -> Any:
            """Takes every error, of any server, as the LMS's 404."""
            if answer.status < 300:
                return answer.json()
            raise client.NotThere("not found", status=answer.status)

        patch.setattr(batch, "_json_or_refusal", json_or_not_there)
        # Switches off a second check, which would notice the other server.
        patch.setattr(Runner, "_verify_refusals", lambda self, outcomes: outcomes)

    assert_found(mutation, "and the LMS never did that", first_seed=2)


def test_storing_a_mode_in_only_one_of_two_currencies_is_found():
    """The LMS offers the mode ``verified`` in US dollars and in euros. With the mutation, the
    application stores only the last one."""

    def mutation(patch: Patch) -> None:
        from usher.application.runs import kinds

        write_modes = kinds._write_modes

        def write_one_mode_of_each_slug(run: Any, lms_modes: Any, own_modes: Any) -> bool:
            """Writes only the last mode of each slug."""
            modes_by_slug = {mode.slug: mode for mode in lms_modes}
            return write_modes(run, list(modes_by_slug.values()), own_modes)

        patch.setattr(kinds, "_write_modes", write_one_mode_of_each_slug)

    assert_found(mutation, "in the end the modes of", first_seed=11)


def test_ending_the_worker_because_of_a_row_that_can_not_be_written_is_found():
    """A run had the same mode in two currencies, and a former constraint of the database allowed
    each mode of a run only once: the modes could not be written, and the error ended the worker."""

    def mutation(patch: Patch) -> None:
        from django.db import IntegrityError

        from usher.application.runs import kinds
        from usher.engine import runner

        write_modes = kinds._write_modes

        def reject_modes_with_equal_slugs(run: Any, lms_modes: Any, own_modes: Any) -> bool:
            """Fails as the database's former constraint did."""
            if len({mode.slug for mode in lms_modes}) < len(lms_modes):
                raise IntegrityError("UNIQUE constraint failed: two modes of a run are equal")
            return write_modes(run, lms_modes, own_modes)

        patch.setattr(kinds, "_write_modes", reject_modes_with_equal_slugs)
        # ``_write_outcomes`` halves the outcomes until only the rejected one fails. Without it, the
        # error ends the worker.
        patch.setattr(runner, "_write_outcomes", runner.write_back)

    assert_found(mutation, "IntegrityError", first_seed=11)
