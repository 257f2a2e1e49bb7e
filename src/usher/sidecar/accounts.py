"""Creates accounts and tokens in the LMS, and records them in the application."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import TokenPair, read_tokens
from usher.contract.failures import FailureClass, RegistrationError
from usher.sidecar.adapters.adapter import Selection
from usher.sidecar.learners import Learner, read_learners
from usher.sidecar.parallel import in_parallel
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.public_accounts import BATCH_SIZE as PUBLIC_BATCH_SIZE
from usher.sidecar.public_accounts import PublicAccounts
from usher.sidecar.session import Session
from usher.sidecar.summary import FAILED, REFUSED, SKIPPED, Summary

ACCOUNT = "account"
#: Learners in a batch. A batch takes some seconds, so it ends before the learners' locks expire.
BATCH_SIZE = 200
#: Seconds between two checks of locked learners.
LOCK_CHECK_SECONDS = 2.0
#: Seconds to wait for locked learners after the time at which their locks must have expired.
SECONDS_AFTER_EXPIRY = 10.0
#: Outcomes of a write after which the row has the intended values.
_WRITTEN_OUTCOMES = ("written", "same")
_NAME_TAKEN = RegistrationError.DUPLICATE_USERNAME.value

#: The learner's primary key → the LMS's result in the batch API's form, but with ``tokens`` as a
#: TokenPair or None. ``token_error``: why a created account has no token yet.
Results = dict[Any, dict[str, Any]]
#: A function that sends a page of learners to the LMS. It yields results several times, so that the
#: first results are recorded even if the LMS fails for the other learners.
Send = Callable[[Sequence[Learner]], Generator[Results]]


class LockedLearner(NamedTuple):
    """A learner whom the application, or a killed sidecar, has locked. retry_key:
    ``Learner.retry_key``."""

    shown_name: str
    retry_key: Any


def reconcile_accounts(
    session: Session, due: Selection, summary: Summary, *, batched: bool
) -> None:
    """Creates the accounts and tokens that are ``due``. Raises LmsError if the LMS refuses all
    learners for the same reason."""
    if batched:
        _reconcile(session, due, summary, _batch_sender(session), BATCH_SIZE)
    else:
        with PublicAccounts(session) as send:
            # Small pages if few requests are sent at a time: learners are locked until the whole
            # page is done.
            page_size = min(PUBLIC_BATCH_SIZE, 2 * session.concurrency)
            _reconcile(session, due, summary, send, page_size)


def _reconcile(
    session: Session, due: Selection, summary: Summary, send: Send, page_size: int
) -> None:
    """Processes the due learners. If ``summary.waits_for_locks``, also retries locked learners
    until their locks expire: a killed sidecar may have left locks."""
    lock = session.adapter.lock
    until = time.monotonic()
    if lock and summary.waits_for_locks:
        until += lock.expire_seconds + SECONDS_AFTER_EXPIRY
    locked = _process_due_learners(session, due, summary, send, page_size)
    if locked and summary.waits_for_locks:
        learners = "1 learner is" if len(locked) == 1 else f"{len(locked)} learners are"
        summary.notify(
            f"{learners} locked, by {session.adapter.title} or by a sidecar that was killed; "
            "waiting until the locks expire"
        )
    while locked and time.monotonic() < until:
        time.sleep(LOCK_CHECK_SECONDS)
        summary.report_progress()
        keys, locked = list(locked), {}
        for start in range(0, len(keys), MOST_ROWS):
            selection = due.narrowed_by({"pk__in": keys[start : start + MOST_ROWS]})
            locked |= _process_due_learners(session, selection, summary, send, page_size)
    for learner in locked.values():
        reason = "the application is creating it now"
        summary.add(ACCOUNT, SKIPPED, learner.shown_name, reason, retry_key=learner.retry_key)


def _process_due_learners(
    session: Session, due: Selection, summary: Summary, send: Send, page_size: int
) -> dict[Any, LockedLearner]:
    """Processes all due learners once. Returns the learners that are locked elsewhere, by primary
    key."""
    locked_elsewhere: dict[Any, LockedLearner] = {}

    def process_page(page: list[Learner]) -> None:
        due_learners = [
            learner for learner in page if summary.row_memory.is_due(ACCOUNT, learner.retry_key)
        ]
        with summary.row_memory.claim(
            ACCOUNT, [learner.pk for learner in due_learners]
        ) as claimed_keys:
            claimed = [learner for learner in due_learners if learner.pk in claimed_keys]
            # Adds to ``locked_elsewhere`` the learners that another process has locked.
            with _lock_learners(session, claimed, locked_elsewhere) as locked_page:
                named_learners = _choose_missing_usernames(session, locked_page, summary)
                if named_learners:
                    _create_accounts(session, named_learners, send, summary)

    pages = read_learners(
        session.agent, session.adapter, page_size=page_size, selection=due, with_enrollments=False
    )
    with in_parallel(process_page, pages) as results:
        for _ in results:
            summary.report_progress()
    return locked_elsewhere


def _batch_sender(session: Session) -> Send:
    """Returns a function that sends a page with the batch API; then again, without the refused
    value, the learners of whom the LMS refused an optional value."""

    def send(page: Sequence[Learner]) -> Generator[Results]:
        results = send_once(page)
        corrected = [
            learner_to_retry
            for learner in page
            if (learner_to_retry := _drop_refused_value(learner, results.get(learner.pk)))
        ]
        yield results | send_once(corrected) if corrected else results

    def send_once(page: Sequence[Learner]) -> Results:
        now = datetime.now(UTC)
        results = batch.send(
            session.lms, batch.ACCOUNTS, [_batch_item(learner) for learner in page]
        )
        return {learner.pk: _result(results, learner, now) for learner in page}

    return send


def _result(results: batch.Results, learner: Learner, now: datetime) -> dict[str, Any]:
    """Returns the LMS's result for one item; a failure if the LMS left the item out."""
    try:
        result = batch.result_of(results, learner.pk)
        tokens = read_tokens(result["tokens"], now) if result.get("tokens") else None
    except LmsError as error:
        error_data = {"code": error.code, "message": error.message}
        return {"status": FAILED, "error": error_data, "request_id": error.request_id}
    return {**result, "tokens": tokens}


@contextmanager
def _lock_learners(
    session: Session, page: list[Learner], locked_elsewhere: dict[Any, LockedLearner]
) -> Iterator[list[Learner]]:
    """Tries to lock the learners. Yields the locked ones, and adds the others to
    ``locked_elsewhere``."""
    lock = session.adapter.lock
    if lock is None:
        yield page
        return
    holder = secrets.token_hex(8)
    answers = session.agent.ask(
        "lock",
        function=lock.function,
        model=session.adapter.users.model,
        name=lock.name,
        column=lock.column,
        expire=lock.expire_seconds,
        holder=holder,
        keys=[learner.pk for learner in page],
    )
    try:
        for learner, is_held in zip(page, answers, strict=True):
            if not is_held:
                locked_elsewhere[learner.pk] = LockedLearner(learner.shown_name, learner.retry_key)
        yield [learner for learner, is_held in zip(page, answers, strict=True) if is_held]
    finally:
        session.agent.ask("unlock", holder=holder)


def _choose_missing_usernames(
    session: Session, page: list[Learner], summary: Summary
) -> list[Learner]:
    """Reads the locked learners again, and lets the application's own code choose missing
    usernames. Returns the learners who have a username and whom the application has not given up.

    Usernames are committed before they are sent, because the LMS requests them from the
    application.
    """
    page = _read_again(session, page)
    nameless = [learner for learner in page if not learner.username]
    if nameless and session.adapter.name_function:
        keys = [learner.pk for learner in nameless]
        # Create the missing account rows; existing ones stay as they are. The application's
        # function then chooses their usernames, one at a time.
        user = session.adapter.account.columns["user"]
        rows = [{"find": {user: key}, "set": {}} for key in keys]
        session.agent.ask("write", model=session.adapter.account.model, rows=rows)
        errors = session.agent.ask(
            "call",
            function=session.adapter.name_function,
            model=session.adapter.users.model,
            keys=keys,
        )
        for learner, error in zip(nameless, errors, strict=True):
            if error:
                reason = f"it could not be named: {error}"
                summary.add(
                    ACCOUNT, FAILED, learner.shown_name, reason, retry_key=learner.retry_key
                )
        page = _read_again(session, page)
    return [learner for learner in page if learner.username and not learner.given_up]


def _read_again(session: Session, page: list[Learner]) -> list[Learner]:
    """Reads the learners again. Leaves out those who have an account and a token by now."""
    keys = [learner.pk for learner in page]
    if not keys:
        return []
    selection = Selection(filter=({"pk__in": keys},))
    reread = [
        learner
        for rows in read_learners(
            session.agent,
            session.adapter,
            page_size=len(keys),
            selection=selection,
            with_enrollments=False,
        )
        for learner in rows
    ]
    return [learner for learner in reread if not (learner.has_account and learner.has_token)]


def _create_accounts(session: Session, page: list[Learner], send: Send, summary: Summary) -> None:
    """Sends the learners and records each result as it arrives. A temporary error fails only the
    learners without a result."""
    remaining = {learner.pk: learner for learner in page}
    try:
        with closing(_send_and_rename(session, page, send)) as batches:
            for results in batches:
                _handle_results(session, [remaining.pop(key) for key in results], results, summary)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for learner in remaining.values():
            summary.add_error(ACCOUNT, learner.shown_name, error, learner.retry_key)


def _handle_results(
    session: Session, page: list[Learner], results: Results, summary: Summary
) -> None:
    """Records the results of these learners in the application and in ``summary``."""
    created = []
    for learner in page:
        result = results[learner.pk]
        learner = replace(learner, username=result.get("new_username", learner.username))
        if result["status"] == FAILED:
            summary.add_result(ACCOUNT, FAILED, learner.shown_name, result, learner.retry_key)
        elif result["error"]:
            _add_refusal(session, learner, result, summary)
        else:
            created.append((learner, result))
    if created:
        _record_accounts(session, created, summary)


def _send_and_rename(session: Session, page: list[Learner], send: Send) -> Generator[Results]:
    """Yields results by primary key. If another person has the username in the LMS, the learner
    gets a username that the LMS suggests, as in the application's own code; the result holds that
    username as ``new_username``."""
    with closing(send(page)) as batches:
        for results in batches:
            renamed_learners = _rename_if_name_taken(session, page, results)
            for learner in renamed_learners:
                del results[learner.pk]
            yield results
            if renamed_learners:
                new_usernames = {
                    learner.pk: {"new_username": learner.username} for learner in renamed_learners
                }
                with closing(send(renamed_learners)) as results_of_renamed:
                    for renamed_results in results_of_renamed:
                        yield {
                            key: result | new_usernames[key]
                            for key, result in renamed_results.items()
                        }


def _rename_if_name_taken(session: Session, page: list[Learner], results: Results) -> list[Learner]:
    """Gives the learners whose username is taken in the LMS another one, which the LMS suggests.
    Returns these learners; none if the LMS username is the username in the application, which must
    not change."""
    if session.adapter.username_table != "account":
        return []
    renamed_learners = []
    for learner in page:
        error = results.get(learner.pk, {}).get("error")
        suggestions = error.get("suggestions") if error else None
        if not error or not suggestions or error["code"] != _NAME_TAKEN:
            continue
        if _rename(session, learner, suggestions[0]):
            renamed_learners.append(replace(learner, username=suggestions[0]))
    return renamed_learners


def _drop_refused_value(learner: Learner, result: dict[str, Any] | None) -> Learner | None:
    """Returns the learner without the optional value that the LMS refused; None if the LMS refused
    nothing or a required value."""
    error = result.get("error") if result else None
    if not error:
        return None
    if error["code"] == RegistrationError.INVALID_COUNTRY:
        return replace(learner, country="")
    is_name = set(error.get("fields") or ()) == {"name"} and learner.name
    return replace(learner, name="") if is_name else None


def _batch_item(learner: Learner) -> dict[str, Any]:
    return {
        "id": learner.pk,
        "username": learner.username,
        "email": learner.email,
        # With '', a new account gets the username as name, and an existing one keeps its name.
        "name": learner.name,
        "country": learner.country_code,
        "tokens": not learner.has_token,
    }


def _rename(session: Session, learner: Learner, new_username: str) -> bool:
    """Stores the new username in the application. Returns False if it was not stored, for example
    because another user has it."""
    columns = session.adapter.account.columns
    (result,) = session.agent.ask(
        "write",
        model=session.adapter.account.model,
        rows=[
            {
                "find": {columns["user"]: learner.pk},
                "expect": {columns["username"]: learner.username, columns["has_account"]: False},
                "set": {columns["username"]: new_username},
            }
        ],
    )
    return bool(result["outcome"] == "written")


def _add_refusal(
    session: Session, learner: Learner, result: dict[str, Any], summary: Summary
) -> None:
    """Adds a refusal to ``summary``. Also records it in the application's own columns, if there are
    any, so that the application's tasks stop trying too. If staff clear these columns, the learner
    is tried again immediately."""
    columns, error = session.adapter.account.columns, result["error"]
    is_recorded = False
    # The account of a protected user exists already, so nobody gives up creating it.
    if "given_up" in columns and error["code"] != RegistrationError.PROTECTED_ACCOUNT:
        is_recorded = _record_refusal(session, learner, error)
    # A recorded refusal is not due any more, so it needs no pause.
    retry_key = None if is_recorded else learner.retry_key
    summary.add_result(ACCOUNT, REFUSED, learner.shown_name, result, retry_key)


def _record_refusal(session: Session, learner: Learner, error: dict[str, Any]) -> bool:
    """Writes the refusal in the form of the application's own code. Returns whether it was
    written."""
    columns = session.adapter.account.columns
    fields = error.get("fields") or {"username": error["message"]}
    data = {name: [{"user_message": message}] for name, message in fields.items()}
    (result,) = session.agent.ask(
        "write",
        model=session.adapter.account.model,
        rows=[
            {
                "find": {columns["user"]: learner.pk},
                "expect": {columns["has_account"]: False, columns["given_up"]: False},
                "set": {
                    columns["given_up"]: True,
                    columns["reason"]: {**data, "error_code": error["code"]},
                },
            }
        ],
    )
    return bool(result["outcome"] == "written")


def _record_accounts(
    session: Session, created: list[tuple[Learner, dict[str, Any]]], summary: Summary
) -> None:
    """Writes the accounts, then the tokens. If an account could not be written, its token is
    dropped: the username may have changed, and the token would belong to another account. An
    account that was written without a token is due again, for the token only."""
    account = session.adapter.account
    unrecorded = [learner for learner, _ in created if not learner.has_account]
    results: Results = {}
    if unrecorded:
        outcomes = session.agent.ask(
            "write",
            model=account.model,
            owner=_owner_relation(session),
            rows=[_account_row(session, learner) for learner in unrecorded],
        )
        results = {
            learner.pk: outcome for learner, outcome in zip(unrecorded, outcomes, strict=True)
        }
    already_recorded = {"outcome": "same"}
    write_results = [results.get(learner.pk, already_recorded) for learner, _ in created]
    _record_tokens(
        session,
        [
            (learner, result["tokens"])
            for (learner, result), write_result in zip(created, write_results, strict=True)
            if result["tokens"] and write_result["outcome"] in _WRITTEN_OUTCOMES
        ],
    )
    for (learner, result), write_result in zip(created, write_results, strict=True):
        if result.get("token_error") and write_result["outcome"] in _WRITTEN_OUTCOMES:
            reason = f"the account was created; no token yet: {result['token_error']}"
            summary.add(ACCOUNT, FAILED, learner.shown_name, reason, retry_key=learner.retry_key)
        else:
            summary.add_write(ACCOUNT, learner.shown_name, write_result, learner.retry_key)


def _record_tokens(session: Session, tokens: list[tuple[Learner, TokenPair]]) -> None:
    """Inserts the tokens. A token that another process has stored meanwhile stays. The results are
    not read: a learner who still has no token is due again."""
    token = session.adapter.token
    rows = [
        {
            "find": {token.columns["user"]: learner.pk},
            "set": {
                token.columns["access"]: pair.access_token,
                token.columns["refresh"]: pair.refresh_token,
                token.columns["expires"]: pair.expires_at.isoformat(),
            },
        }
        for learner, pair in tokens
    ]
    if rows:
        session.agent.ask("write", model=token.model, rows=rows)


def _owner_relation(session: Session) -> dict[str, str]:
    """Returns the key ``owner`` of a request ``write`` to the agent: the owner of an account's row
    is the row of users to which it refers."""
    return {"model": session.adapter.users.model, "column": session.adapter.account.columns["user"]}


def _account_row(session: Session, learner: Learner) -> dict[str, Any]:
    """Returns the row of the agent's ``write`` for a created account. The agent writes nothing if
    the username has changed meanwhile: ``expect`` has the username if it is in the table of
    accounts, ``owner`` if it is in the table of users."""
    columns = session.adapter.account.columns
    row: dict[str, Any] = {
        "find": {columns["user"]: learner.pk},
        "set": {columns["has_account"]: True},
    }
    if "username" in columns:
        row["expect"] = {columns["has_account"]: False, columns["username"]: learner.username}
        return {**row, "owner": {}}
    return {**row, "owner": {session.adapter.users.columns["username"]: learner.username}}
