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


class LockedPage(NamedTuple):
    """A page of learners. held: those whom this sidecar has locked. locked_elsewhere: those whom
    the application, or a killed sidecar, has locked."""

    held: list[Learner]
    locked_elsewhere: list[Learner]


class CreatedAccount(NamedTuple):
    """A learner whose account exists in the LMS. result: the LMS's."""

    learner: Learner
    result: dict[str, Any]


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
    stop_waiting_at = time.monotonic()
    if lock and summary.waits_for_locks:
        stop_waiting_at += lock.expire_seconds + SECONDS_AFTER_EXPIRY
    locked = _process_due_learners(session, due, summary, send, page_size)
    if locked and summary.waits_for_locks:
        learners = "1 learner is" if len(locked) == 1 else f"{len(locked)} learners are"
        summary.notify(
            f"{learners} locked, by {session.adapter.title} or by a sidecar that was killed; "
            "waiting until the locks expire"
        )
    while locked and time.monotonic() < stop_waiting_at:
        time.sleep(LOCK_CHECK_SECONDS)
        summary.report_progress()
        keys = list(locked)
        locked = {}
        for start in range(0, len(keys), MOST_ROWS):
            selection = due.narrowed_by({"pk__in": keys[start : start + MOST_ROWS]})
            locked |= _process_due_learners(session, selection, summary, send, page_size)
    for learner in locked.values():
        reason = "the application is creating it now"
        summary.add(ACCOUNT, SKIPPED, learner.shown_name, reason, retry_key=learner.retry_key)


def _process_due_learners(
    session: Session, due: Selection, summary: Summary, send: Send, page_size: int
) -> dict[Any, Learner]:
    """Processes all due learners once. Returns the learners that are locked elsewhere, by primary
    key."""
    memory = summary.row_memory
    locked_elsewhere: dict[Any, Learner] = {}

    def process_page(page: list[Learner]) -> None:
        due_learners = [learner for learner in page if memory.is_due(ACCOUNT, learner.retry_key)]
        with memory.claim(ACCOUNT, [learner.pk for learner in due_learners]) as claimed_keys:
            claimed = [learner for learner in due_learners if learner.pk in claimed_keys]
            with _lock_learners(session, claimed) as locked_page:
                for learner in locked_page.locked_elsewhere:
                    locked_elsewhere[learner.pk] = learner
                named_learners = _choose_missing_usernames(session, locked_page.held, summary)
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
        corrected_learners = []
        for learner in page:
            corrected = _without_refused_value(learner, results[learner.pk])
            if corrected is not None:
                corrected_learners.append(corrected)
        if corrected_learners:
            results |= send_once(corrected_learners)
        yield results

    def send_once(page: Sequence[Learner]) -> Results:
        sent_at = datetime.now(UTC)
        items = [_batch_item(learner) for learner in page]
        results = batch.send(session.lms, batch.ACCOUNTS, items)
        return {learner.pk: _result(results, learner, sent_at) for learner in page}

    return send


def _result(results: batch.Results, learner: Learner, sent_at: datetime) -> dict[str, Any]:
    """Returns the LMS's result for one item, with ``tokens`` as a TokenPair or None; a failure if
    the LMS left the item out or the result can't be read."""
    try:
        result = batch.result_of(results, learner.pk)
        tokens = read_tokens(result["tokens"], sent_at) if result.get("tokens") else None
    except LmsError as error:
        error_data = {"code": error.code, "message": error.message}
        return {"status": FAILED, "error": error_data, "request_id": error.request_id}
    return {**result, "tokens": tokens}


@contextmanager
def _lock_learners(session: Session, page: list[Learner]) -> Iterator[LockedPage]:
    """Tries to lock the learners with the application's own lock, until the block ends. If the
    application has no lock, all learners count as held."""
    lock = session.adapter.lock
    if lock is None:
        yield LockedPage(held=page, locked_elsewhere=[])
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
        locked_page = LockedPage(held=[], locked_elsewhere=[])
        for learner, is_held in zip(page, answers, strict=True):
            if is_held:
                locked_page.held.append(learner)
            else:
                locked_page.locked_elsewhere.append(learner)
        yield locked_page
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
        _choose_usernames(session, nameless, summary)
        page = _read_again(session, page)
    return [learner for learner in page if learner.username and not learner.given_up]


def _choose_usernames(session: Session, nameless: list[Learner], summary: Summary) -> None:
    """Lets the application's function choose a username for each learner. Counts the learners for
    whom it failed."""
    adapter = session.adapter
    keys = [learner.pk for learner in nameless]
    # Create the missing account rows, in which the function stores the usernames; existing rows
    # stay as they are.
    user_column = adapter.account.columns["user"]
    rows = [{"find": {user_column: key}, "set": {}} for key in keys]
    session.agent.ask("write", model=adapter.account.model, rows=rows)
    errors = session.agent.ask(
        "call", function=adapter.name_function, model=adapter.users.model, keys=keys
    )
    for learner, error in zip(nameless, errors, strict=True):
        if error:
            reason = f"it could not be named: {error}"
            summary.add(ACCOUNT, FAILED, learner.shown_name, reason, retry_key=learner.retry_key)


def _read_again(session: Session, page: list[Learner]) -> list[Learner]:
    """Reads the learners again. Leaves out those who have an account and a token by now."""
    keys = [learner.pk for learner in page]
    if not keys:
        return []
    pages = read_learners(
        session.agent,
        session.adapter,
        page_size=len(keys),
        selection=Selection(filter=({"pk__in": keys},)),
        with_enrollments=False,
    )
    still_due = []
    for reread_page in pages:
        for learner in reread_page:
            if not learner.has_account or not learner.has_token:
                still_due.append(learner)
    return still_due


def _create_accounts(session: Session, page: list[Learner], send: Send, summary: Summary) -> None:
    """Sends the learners and records each result as it arrives. A temporary error fails only the
    learners without a result. Raises LmsError if the LMS refuses all learners for the same
    reason."""
    remaining = {learner.pk: learner for learner in page}
    try:
        with closing(_send_and_rename(session, page, send)) as batches:
            for results in batches:
                learners = [remaining.pop(key) for key in results]
                _handle_results(session, learners, results, summary)
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
            created.append(CreatedAccount(learner, result))
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
                yield from _send_renamed(renamed_learners, send)


def _send_renamed(learners: list[Learner], send: Send) -> Generator[Results]:
    """Yields results by primary key, with the learner's username as ``new_username``."""
    new_usernames = {learner.pk: learner.username for learner in learners}
    with closing(send(learners)) as batches:
        for results in batches:
            for key, result in results.items():
                result["new_username"] = new_usernames[key]
            yield results


def _rename_if_name_taken(session: Session, page: list[Learner], results: Results) -> list[Learner]:
    """Gives the learners whose username is taken in the LMS another one, which the LMS suggests.
    Returns these learners; none if the LMS username is the username in the application, which must
    not change."""
    if session.adapter.username_table != "account":
        return []
    renamed_learners = []
    for learner in page:
        error = results.get(learner.pk, {}).get("error")
        if not error or error["code"] != _NAME_TAKEN or not error.get("suggestions"):
            continue
        new_username = error["suggestions"][0]
        if _rename(session, learner, new_username):
            renamed_learners.append(replace(learner, username=new_username))
    return renamed_learners


def _without_refused_value(learner: Learner, result: dict[str, Any]) -> Learner | None:
    """Returns the learner without the optional value that the LMS refused; None if the LMS refused
    nothing or a required value."""
    error = result["error"]
    if not error:
        return None
    if error["code"] == RegistrationError.INVALID_COUNTRY:
        return replace(learner, country="")
    refused_fields = list(error.get("fields") or ())
    if refused_fields == ["name"] and learner.name:
        return replace(learner, name="")
    return None


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
    columns = session.adapter.account.columns
    error = result["error"]
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
    messages = error.get("fields") or {"username": error["message"]}
    reason: dict[str, Any] = {
        field: [{"user_message": message}] for field, message in messages.items()
    }
    reason["error_code"] = error["code"]
    (result,) = session.agent.ask(
        "write",
        model=session.adapter.account.model,
        rows=[
            {
                "find": {columns["user"]: learner.pk},
                "expect": {columns["has_account"]: False, columns["given_up"]: False},
                "set": {
                    columns["given_up"]: True,
                    columns["reason"]: reason,
                },
            }
        ],
    )
    return bool(result["outcome"] == "written")


def _record_accounts(session: Session, created: list[CreatedAccount], summary: Summary) -> None:
    """Writes the accounts, then the tokens. If an account could not be written, its token is
    dropped: the username may have changed, and the token would belong to another account. An
    account that was written without a token is due again, for the token only."""
    write_results = _write_accounts(session, [learner for learner, _ in created])

    tokens = []
    for learner, result in created:
        is_written = write_results[learner.pk]["outcome"] in _WRITTEN_OUTCOMES
        if is_written and result["tokens"]:
            tokens.append((learner, result["tokens"]))
    _record_tokens(session, tokens)

    for learner, result in created:
        write_result = write_results[learner.pk]
        is_written = write_result["outcome"] in _WRITTEN_OUTCOMES
        if is_written and result.get("token_error"):
            reason = f"the account was created; no token yet: {result['token_error']}"
            summary.add(ACCOUNT, FAILED, learner.shown_name, reason, retry_key=learner.retry_key)
        else:
            summary.add_write(ACCOUNT, learner.shown_name, write_result, learner.retry_key)


def _write_accounts(session: Session, learners: list[Learner]) -> dict[Any, dict[str, Any]]:
    """Records the accounts that are not recorded yet. Returns primary key → the agent's outcome;
    ``same`` for an account that was recorded before."""
    outcomes = {learner.pk: {"outcome": "same"} for learner in learners}
    unrecorded = [learner for learner in learners if not learner.has_account]
    if unrecorded:
        answers = session.agent.ask(
            "write",
            model=session.adapter.account.model,
            owner=_owner_relation(session),
            rows=[_account_row(session, learner) for learner in unrecorded],
        )
        for learner, answer in zip(unrecorded, answers, strict=True):
            outcomes[learner.pk] = answer
    return outcomes


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
