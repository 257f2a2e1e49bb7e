"""Creates accounts and tokens in the LMS, and records them in the application."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import TokenPair, read_tokens
from usher.contract.failures import FailureClass, RegistrationError
from usher.sidecar.adapters.adapter import Selection
from usher.sidecar.learners import Learner, learners
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import FAILED, LEFT, REFUSED, Outcome
from usher.sidecar.overlapping import overlapped
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.public_accounts import SIZE as PUBLIC_SIZE
from usher.sidecar.public_accounts import PublicAccounts

ACCOUNT = "account"
#: Learners in a batch: some seconds of work, shorter than their locks last.
SIZE = 200
#: Seconds between two checks of locked learners, and after a lock's end until the wait is given up.
LOCKS_EVERY, EXPIRED = 2.0, 10.0
#: Outcomes of a write after which the row has the intended values.
_RECORDED = ("written", "same")
_NAME_TAKEN = RegistrationError.DUPLICATE_USERNAME.value

#: Sends a page of learners to the LMS and yields results: primary key → a result as the batch API
#: gives it, with ``tokens`` as a TokenPair or None. ``token_error``: why a created account has no
#: token yet. It yields several times, so that results are recorded before the LMS fails for the
#: rest.
Results = dict[Any, dict[str, Any]]
Send = Callable[[Sequence[Learner]], Generator[Results]]


def reconcile_accounts(sides: Opened, due: Selection, outcome: Outcome, *, batched: bool) -> None:
    """Creates the accounts and tokens that are ``due``. Raises LmsError if the LMS refuses all
    learners for the same reason."""
    if batched:
        _reconcile(sides, due, outcome, _batch_sender(sides), SIZE)
    else:
        with PublicAccounts(sides) as send:
            # Small pages if few requests are sent at a time: learners are locked until the whole
            # page is done.
            size = min(PUBLIC_SIZE, 2 * sides.concurrency)
            _reconcile(sides, due, outcome, send, size)


def _reconcile(sides: Opened, due: Selection, outcome: Outcome, send: Send, size: int) -> None:
    """Waits for locks, which a killed run may have left; they expire."""
    lock = sides.adapter.lock
    until = time.monotonic() + (lock.expire + EXPIRED if lock and outcome.awaits_locks else 0.0)
    locked = _pass(sides, due, outcome, send, size)
    if locked and outcome.awaits_locks:
        outcome.says(
            f"{len(locked)} learners are locked, by {sides.adapter.title} or by a run that was "
            "killed; waiting until the locks end"
        )
    while locked and time.monotonic() < until:
        time.sleep(LOCKS_EVERY)
        outcome.told()
        again, locked = list(locked), {}
        for start in range(0, len(again), MOST_ROWS):
            only = due.also({"pk__in": again[start : start + MOST_ROWS]})
            locked |= _pass(sides, only, outcome, send, size)
    for email, content in locked.values():
        reason = "the application is creating it now"
        outcome.add(ACCOUNT, LEFT, email, reason, key=content)


def _pass(
    sides: Opened, due: Selection, outcome: Outcome, send: Send, size: int
) -> dict[Any, tuple[str, Any]]:
    """Processes all due learners once. Returns those that are locked: primary key → e-mail address
    and ``Learner.content``."""
    locked: dict[Any, tuple[str, Any]] = {}

    def work(page: list[Learner]) -> None:
        due = [learner for learner in page if outcome.memory.is_due(ACCOUNT, learner.content)]
        with outcome.memory.taken(ACCOUNT, [learner.pk for learner in due]) as free:
            page = [learner for learner in due if learner.pk in free]
            with _locked(sides, page, locked) as mine:
                named = _named(sides, mine, outcome)
                if named:
                    _make(sides, named, send, outcome)

    pages = learners(sides.agent, sides.adapter, size=size, only=due, with_enrollments=False)
    with overlapped(work, pages) as results:
        for _ in results:
            outcome.told()
    return locked


def _batch_sender(sides: Opened) -> Send:
    def send(page: Sequence[Learner]) -> Generator[Results]:
        results = sent(page)
        simpler = [
            simple for learner in page if (simple := _simpler(learner, results.get(learner.pk)))
        ]
        yield results | sent(simpler) if simpler else results

    def sent(page: Sequence[Learner]) -> Results:
        now = datetime.now(UTC)
        results = batch.send(sides.lms, batch.ACCOUNTS, [_item(learner) for learner in page])
        return {learner.pk: _result(results, learner, now) for learner in page}

    return send


def _result(results: batch.Results, learner: Learner, now: datetime) -> dict[str, Any]:
    """Returns the LMS's result for one item; a failure if the LMS left the item out."""
    try:
        result = batch.result_of(results, learner.pk)
        tokens = read_tokens(result["tokens"], now) if result.get("tokens") else None
    except LmsError as error:
        told = {"code": error.code, "message": error.message}
        return {"status": FAILED, "error": told, "request_id": error.request_id}
    return {**result, "tokens": tokens}


@contextmanager
def _locked(
    sides: Opened, page: list[Learner], locked: dict[Any, tuple[str, Any]]
) -> Iterator[list[Learner]]:
    """Locks learners and yields those that it could lock; adds the others to ``locked``."""
    lock = sides.adapter.lock
    if lock is None:
        yield page
        return
    holder = secrets.token_hex(8)
    answers = sides.agent.ask(
        "lock",
        function=lock.function,
        model=sides.adapter.users.model,
        name=lock.name,
        column=lock.column,
        expire=lock.expire,
        holder=holder,
        keys=[learner.pk for learner in page],
    )
    try:
        for learner, got in zip(page, answers, strict=True):
            if not got:
                locked[learner.pk] = learner.email, learner.content
        yield [learner for learner, got in zip(page, answers, strict=True) if got]
    finally:
        sides.agent.ask("unlock", holder=holder)


def _named(sides: Opened, page: list[Learner], outcome: Outcome) -> list[Learner]:
    """Reads the locked learners again, and lets the application's own code choose missing
    usernames.

    Usernames are committed before they are sent, because the LMS requests them from the
    application.
    """
    page = _again(sides, page)
    nameless = [learner for learner in page if not learner.username]
    if nameless and sides.adapter.name_function:
        keys = [learner.pk for learner in nameless]
        # Its own code chooses usernames one after the other.
        user = sides.adapter.account.columns["user"]
        rows = [{"find": {user: key}, "set": {}} for key in keys]
        sides.agent.ask("write", model=sides.adapter.account.model, rows=rows)
        errors = sides.agent.ask(
            "call",
            function=sides.adapter.name_function,
            model=sides.adapter.users.model,
            keys=keys,
        )
        for learner, error in zip(nameless, errors, strict=True):
            if error:
                reason = f"it could not be named: {error}"
                outcome.add(ACCOUNT, FAILED, learner.email, reason, key=learner.content)
        page = _again(sides, page)
    return [learner for learner in page if learner.username and not learner.given_up]


def _again(sides: Opened, page: list[Learner]) -> list[Learner]:
    """Reads the learners again. Leaves out those who have an account and a token by now."""
    keys = [learner.pk for learner in page]
    if not keys:
        return []
    only = Selection(filter=({"pk__in": keys},))
    found = [
        learner
        for rows in learners(
            sides.agent, sides.adapter, size=len(keys), only=only, with_enrollments=False
        )
        for learner in rows
    ]
    return [learner for learner in found if not (learner.made and learner.token)]


def _make(sides: Opened, page: list[Learner], send: Send, outcome: Outcome) -> None:
    left = {learner.pk: learner for learner in page}
    try:
        with closing(_sent(sides, page, send)) as sent:
            for results in sent:
                _take(sides, [left.pop(key) for key in results], results, outcome)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for learner in left.values():
            outcome.add_error(ACCOUNT, learner.email, error, learner.content)


def _take(sides: Opened, page: list[Learner], results: Results, outcome: Outcome) -> None:
    made = []
    for learner in page:
        result = results[learner.pk]
        learner = replace(learner, username=result.get("named", learner.username))
        if result["status"] == FAILED:
            outcome.add_answered(ACCOUNT, FAILED, learner.email, result, learner.content)
        elif result["error"]:
            _refused(sides, learner, result, outcome)
        else:
            made.append((learner, result))
    if made:
        _record(sides, made, outcome)


def _sent(sides: Opened, page: list[Learner], send: Send) -> Generator[Results]:
    """Yields results by primary key. A username that another person has in the LMS is replaced by
    one that the LMS suggests, as the application's own code does; the result has it as
    ``named``."""
    with closing(send(page)) as sent:
        for results in sent:
            again = _with_other_names(sides, page, results)
            for learner in again:
                del results[learner.pk]
            yield results
            if again:
                names = {learner.pk: {"named": learner.username} for learner in again}
                with closing(send(again)) as sent_again:
                    for found in sent_again:
                        yield {key: result | names[key] for key, result in found.items()}


def _with_other_names(sides: Opened, page: list[Learner], results: Results) -> list[Learner]:
    if sides.adapter.account_name != "account":
        return []
    again = []
    for learner in page:
        error = results.get(learner.pk, {}).get("error")
        suggestions = error.get("suggestions") if error else None
        if not error or not suggestions or error["code"] != _NAME_TAKEN:
            continue
        if _renamed(sides, learner, suggestions[0]):
            again.append(replace(learner, username=suggestions[0]))
    return again


def _simpler(learner: Learner, result: dict[str, Any] | None) -> Learner | None:
    """Returns the learner without a value that the LMS refused and does not need; None if there is
    none."""
    error = result.get("error") if result else None
    if not error:
        return None
    if error["code"] == RegistrationError.INVALID_COUNTRY:
        return replace(learner, country="")
    is_name = set(error.get("fields") or ()) == {"name"} and learner.name != learner.username
    return replace(learner, name=learner.username) if is_name else None


def _item(learner: Learner) -> dict[str, Any]:
    return {
        "id": learner.pk,
        "username": learner.username,
        "email": learner.email,
        "name": learner.name or learner.username,
        "country": learner.country if len(learner.country) == 2 else "",
        "tokens": not learner.token,
    }


def _renamed(sides: Opened, learner: Learner, name: str) -> bool:
    columns = sides.adapter.account.columns
    (result,) = sides.agent.ask(
        "write",
        model=sides.adapter.account.model,
        rows=[
            {
                "find": {columns["user"]: learner.pk},
                "expect": {columns["username"]: learner.username, columns["made"]: False},
                "set": {columns["username"]: name},
            }
        ],
    )
    return bool(result["outcome"] == "written")


def _refused(sides: Opened, learner: Learner, result: dict[str, Any], outcome: Outcome) -> None:
    """Records a refusal in the application's own columns, so that its tasks stop trying too. If
    staff clear it there, the learner is tried again at once."""
    columns, error = sides.adapter.account.columns, result["error"]
    is_kept = False
    if "given_up" in columns and error["code"] != RegistrationError.PROTECTED_ACCOUNT:
        is_kept = _kept(sides, learner, error)
    key = None if is_kept else learner.content
    outcome.add_answered(ACCOUNT, REFUSED, learner.email, result, key)


def _kept(sides: Opened, learner: Learner, error: dict[str, Any]) -> bool:
    columns = sides.adapter.account.columns
    fields = error.get("fields") or {"username": error["message"]}
    data = {name: [{"user_message": words}] for name, words in fields.items()}
    (written,) = sides.agent.ask(
        "write",
        model=sides.adapter.account.model,
        rows=[
            {
                "find": {columns["user"]: learner.pk},
                "expect": {columns["made"]: False, columns["given_up"]: False},
                "set": {
                    columns["given_up"]: True,
                    columns["reason"]: {**data, "error_code": error["code"]},
                },
            }
        ],
    )
    return bool(written["outcome"] == "written")


def _record(sides: Opened, made: list[tuple[Learner, dict[str, Any]]], outcome: Outcome) -> None:
    """Writes accounts, then tokens of the accounts that could be written: if a username has changed
    meanwhile, the token belongs to another account. For an account without a token, only the token
    is due afterwards."""
    account = sides.adapter.account
    unrecorded = [learner for learner, _ in made if not learner.made]
    results = iter(
        sides.agent.ask(
            "write",
            model=account.model,
            owner=_owner(sides),
            rows=[_account_row(sides, learner) for learner in unrecorded],
        )
        if unrecorded
        else ()
    )
    outcomes = [{"outcome": "same"} if one.made else next(results) for one, _ in made]
    _record_tokens(
        sides,
        [
            (learner, result["tokens"])
            for (learner, result), written in zip(made, outcomes, strict=True)
            if result["tokens"] and written["outcome"] in _RECORDED
        ],
    )
    for (learner, result), written in zip(made, outcomes, strict=True):
        if result.get("token_error") and written["outcome"] in _RECORDED:
            reason = f"the account was made; no token yet: {result['token_error']}"
            outcome.add(ACCOUNT, FAILED, learner.email, reason, key=learner.content)
        else:
            outcome.add_written(ACCOUNT, learner.email, written, learner.content)


def _record_tokens(sides: Opened, tokens: list[tuple[Learner, TokenPair]]) -> None:
    token = sides.adapter.token
    rows = [
        {
            "find": {token.columns["user"]: learner.pk},
            "set": {
                token.columns["access"]: given.access_token,
                token.columns["refresh"]: given.refresh_token,
                token.columns["expires"]: given.expires_at.isoformat(),
            },
        }
        for learner, given in tokens
    ]
    if rows:
        sides.agent.ask("write", model=token.model, rows=rows)


def _owner(sides: Opened) -> dict[str, str]:
    return {"model": sides.adapter.users.model, "by": sides.adapter.account.columns["user"]}


def _account_row(sides: Opened, learner: Learner) -> dict[str, Any]:
    """The row with the username of the created account. A username that was changed meanwhile is
    kept."""
    columns = sides.adapter.account.columns
    row: dict[str, Any] = {
        "find": {columns["user"]: learner.pk},
        "set": {columns["made"]: True},
    }
    if "username" in columns:
        row["expect"] = {columns["made"]: False, columns["username"]: learner.username}
        return {**row, "owner": {}}
    return {**row, "owner": {sides.adapter.users.columns["username"]: learner.username}}
