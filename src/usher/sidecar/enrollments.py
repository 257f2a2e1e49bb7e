"""Enrolls and unenrolls learners in the LMS, and records the results in the application."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from usher.client import batch
from usher.client.client import NAMES_A_REQUEST
from usher.client.errors import LmsError
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import Selection
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import FAILED, REFUSED, Outcome
from usher.sidecar.overlapping import overlapped

ENROLLMENT, UNENROLLMENT = "enrollment", "unenrollment"
SIZE = 300
#: Error codes of the batch API, and those that the client gives to messages of the public API.
_MODE_REFUSED = ("mode-unavailable", "mode-not-offered")

Items = list[dict[str, Any]]
Results = dict[Any, dict[str, Any]]


class Send(Protocol):
    """Sends items of the batch API and returns its results: ``id`` → result.

    instead: the mode for items whose own mode the LMS does not offer; '' if they are refused.
    """

    def __call__(self, items: Items, instead: str = "") -> Results: ...


def reconcile_enrollments(
    sides: Opened, due: Selection, outcome: Outcome, *, batched: bool, ends: bool = False
) -> None:
    """Enrolls everything in ``due``. ends: unenrolls instead: ``due`` has enrollments that the
    application ended without success in the LMS. Raises LmsError if the LMS refuses all learners
    for the same reason."""
    kind = UNENROLLMENT if ends else ENROLLMENT
    with ThreadPoolExecutor(sides.concurrency, thread_name_prefix="enrollment") as pool:
        send = sender(sides, pool, batched=batched)

        def work(rows: list[dict[str, Any]]) -> None:
            with due_rows(kind, rows, outcome) as due:
                if due and ends:
                    _unenroll(sides, due, send, outcome)
                elif due:
                    enroll(sides, due, send, outcome)

        with overlapped(work, pages_of(sides, due)) as results:
            for _ in results:
                outcome.told()


@contextmanager
def due_rows(
    kind: str, rows: list[dict[str, Any]], outcome: Outcome
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows that were not refused recently and that no other thread processes, marked as
    taken until the block ends."""
    due = [row for row in rows if outcome.memory.is_due(kind, _content(row))]
    with outcome.memory.taken(ENROLLMENT, [row["pk"] for row in due]) as free:
        yield [row for row in due if row["pk"] in free]


def pages_of(sides: Opened, due: Selection) -> Iterator[list[dict[str, Any]]]:
    table, username = sides.adapter.enrollments, sides.adapter.enrollment_username
    for page in sides.agent.pages(
        model=table.model, fields=[*table.paths, username], limit=SIZE, **due.request()
    ):
        found = [{**table.named(row), "username": row[username]} for row in page["rows"]]
        if found:
            yield [row for row in found if row["username"]]


def enroll(
    sides: Opened,
    rows: list[dict[str, Any]],
    send: Send,
    outcome: Outcome,
    kind: str = ENROLLMENT,
) -> None:
    """Enrolls and records the results. rows: the application's, with the sidecar's names. kind:
    with any other than ENROLLMENT, the application's rows are not changed."""
    try:
        instead = sides.adapter.mode_instead if kind == ENROLLMENT else ""
        results = send([_item(sides, row) for row in rows], instead)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for row in rows:
            outcome.add_error(kind, _what(row), error, _content(row))
        return
    enrolled = []
    for row in rows:
        result = _result(results, row)
        if result["status"] == FAILED:
            outcome.add_answered(kind, FAILED, _what(row), result, _content(row))
        elif result["error"]:
            _refused(sides, row, result, outcome, kind)
        else:
            enrolled.append((row, result))
    if enrolled:
        _record(sides, enrolled, send, outcome, kind)


def _item(sides: Opened, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the batch API's item; ``force`` as the application's own code sets it."""
    return {
        "id": row["pk"],
        "username": row["username"],
        "course_id": row["course"],
        "mode": row.get("mode") or sides.adapter.enrollment_mode,
        "is_active": True,
        "force": True,
    }


def _record(
    sides: Opened,
    enrolled: list[tuple[dict[str, Any], dict[str, Any]]],
    send: Send,
    outcome: Outcome,
    kind: str,
) -> None:
    """Records results. A row that changed meanwhile is not written; if it was refunded, the new
    enrollment is ended."""
    table = sides.adapter.enrollments
    results = sides.agent.ask(
        "write",
        model=table.model,
        by="save_and_log",
        audit=sides.adapter.audit.request(),
        rows=[
            {
                "pk": row["pk"],
                "expect": _expected(sides, row),
                "set": _set(sides, True) if kind == ENROLLMENT else {},
            }
            for row, _ in enrolled
        ],
    )
    changed = [
        row
        for (row, result), written in zip(enrolled, results, strict=True)
        if not outcome.add_written(kind, _what(row), written, _content(row))
        and written["outcome"] in ("changed", "gone")
        and result["status"] == "changed"
    ]
    if changed:
        _take_back(sides, changed, send, outcome)


def _set(sides: Opened, enrolled: bool) -> dict[str, Any]:
    """Returns what the application's own code sets when it enrolls or unenrolls."""
    more = sides.adapter.when_enrolled if enrolled else sides.adapter.when_unenrolled
    columns = sides.adapter.enrollments.columns
    return {columns[name]: value for name, value in {"enrolled": enrolled, **more}.items()}


def _expected(sides: Opened, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that the row must still have, since the enrollment was made for these."""
    names = ("wanted", "enrolled", "change_status", "mode")
    columns = sides.adapter.enrollments.columns
    return {columns[name]: row[name] for name in names if name in columns}


def _take_back(sides: Opened, rows: list[dict[str, Any]], send: Send, outcome: Outcome) -> None:
    """Ends enrollments that this pass made for rows that were refunded meanwhile. No column shows
    that these are due, so failures are reported."""
    gone = _unwanted(sides, rows)
    if not gone:
        return
    failed: LmsError | None = None
    try:
        # Without a mode: the enrollment is ended in any mode.
        results = send([{**_item(sides, row), "is_active": False, "mode": ""} for row in gone])
    except LmsError as error:
        results, failed = {}, error
    for row in gone:
        result = _in_batch_form(failed, FAILED) if failed else _result(results, row)
        if told := result["error"]:
            reason = f"ended here while it was made in the LMS, where it stays: {told['message']}"
            answered = {**result, "error": {**told, "message": reason}}
            outcome.add_answered(ENROLLMENT, FAILED, _what(row), answered)
    if failed is not None and failed.failure_class is FailureClass.SYSTEMIC:
        raise failed


def _unwanted(sides: Opened, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those rows whose learner has no other active row for the same run, for example of another
    order."""
    columns = sides.adapter.enrollments.columns
    wanted = Selection(
        filter=(
            {
                f"{columns['user']}__in": sorted({row["user"] for row in rows}),
                f"{columns['course']}__in": sorted({row["course"] for row in rows}),
                columns["wanted"]: True,
                f"{columns['change_status']}__isnull": True,
            },
        )
    )
    still = {(row["user"], row["course"]) for page in pages_of(sides, wanted) for row in page}
    return [row for row in rows if (row["user"], row["course"]) not in still]


def _unenroll(sides: Opened, rows: list[dict[str, Any]], send: Send, outcome: Outcome) -> None:
    names = sorted({row["username"] for row in rows})
    try:
        active = {
            (found.username, found.course_key)
            for start in range(0, len(names), NAMES_A_REQUEST)
            for found in sides.lms.enrollments_of(names[start : start + NAMES_A_REQUEST])
            if found.is_active
        }
        told = [row for row in _unwanted(sides, rows) if (row["username"], row["course"]) in active]
        # Without a mode: the enrollment is ended in any mode.
        results = send([{**_item(sides, row), "is_active": False, "mode": ""} for row in told])
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for row in rows:
            outcome.add_error(UNENROLLMENT, _what(row), error, _content(row))
        return
    keys = {row["pk"] for row in told}
    ended = []
    for row in rows:
        done: dict[str, Any] = {"status": "same", "error": None}
        result = _result(results, row) if row["pk"] in keys else done
        if result["status"] == FAILED:
            outcome.add_answered(UNENROLLMENT, FAILED, _what(row), result, _content(row))
        elif result["error"]:
            outcome.add_answered(UNENROLLMENT, REFUSED, _what(row), result, _content(row))
        else:
            ended.append(row)
    if ended:
        _record_ended(sides, ended, send, outcome)


def _record_ended(sides: Opened, ended: list[dict[str, Any]], send: Send, outcome: Outcome) -> None:
    """Records ended enrollments. A learner who enrolled again meanwhile is enrolled again in the
    LMS."""
    results = sides.agent.ask(
        "write",
        model=sides.adapter.enrollments.model,
        by="save_and_log",
        audit=sides.adapter.audit.request(),
        rows=[
            {"pk": row["pk"], "expect": _expected(sides, row), "set": _set(sides, False)}
            for row in ended
        ],
    )
    changed = [
        row
        for row, written in zip(ended, results, strict=True)
        if not outcome.add_written(UNENROLLMENT, _what(row), written, _content(row))
    ]
    if changed:
        again = Selection(filter=({"pk__in": [row["pk"] for row in changed]},))
        rows = [row for page in pages_of(sides, again) for row in page]
        wanted = [row for row in rows if row["wanted"] and not row["change_status"]]
        if wanted:
            send([_item(sides, row) for row in wanted])


def _refused(
    sides: Opened, row: dict[str, Any], result: dict[str, Any], outcome: Outcome, kind: str
) -> None:
    """Counts a refusal like the application's own attempts, so that the application gives up as
    usual. If staff reset the count, the enrollment is tried again at once."""
    column = sides.adapter.enrollments.columns.get("attempts") if kind == ENROLLMENT else None
    counted = {**row, "attempts": row["attempts"] + 1} if column else row
    outcome.add_answered(kind, REFUSED, _what(row), result, _content(counted))
    if column:
        attempts = row["attempts"]
        sides.agent.ask(
            "write",
            model=sides.adapter.enrollments.model,
            rows=[
                {
                    "pk": row["pk"],
                    "expect": {**_expected(sides, row), column: attempts},
                    "set": {column: attempts + 1},
                }
            ],
        )


def sender(sides: Opened, pool: ThreadPoolExecutor, *, batched: bool) -> Send:
    return _batch_sender(sides) if batched else _public_sender(sides, pool)


def _batch_sender(sides: Opened) -> Send:
    def send(items: Items, instead: str = "") -> Results:
        results = batch.send(sides.lms, batch.ENROLLMENTS, items)
        refused = [item for item in items if _code(results.get(item["id"])) in _MODE_REFUSED]
        if instead and refused:
            again = [{**item, "mode": instead} for item in refused]
            results |= batch.send(sides.lms, batch.ENROLLMENTS, again)
        return results

    return send


def _public_sender(sides: Opened, pool: ThreadPoolExecutor) -> Send:
    """Enrolls with the public API, one request for each item, several at a time. Returns results in
    the batch API's form.

    After the LMS has refused a mode for a run, that mode is not requested again: an LMS allows some
    hundred requests in a minute, and refused ones count.
    """
    not_offered: set[tuple[str, str]] = set()

    def send(items: Items, instead: str = "") -> Results:
        return dict(pool.map(lambda item: (item["id"], one(item, instead)), items))

    def one(item: dict[str, Any], instead: str) -> dict[str, Any]:
        wanted = item["course_id"], item["mode"]
        if not instead or wanted not in not_offered:
            result = tried(item, item["mode"])
            if not instead or _code(result) not in _MODE_REFUSED:
                return result
            not_offered.add(wanted)
        return tried(item, instead)

    def tried(item: dict[str, Any], mode: str) -> dict[str, Any]:
        try:
            sides.lms.enroll(
                item["username"],
                item["course_id"],
                mode=mode,
                is_active=item["is_active"],
                force=item["force"],
            )
        except LmsError as error:
            if error.failure_class is FailureClass.SYSTEMIC:
                raise
            refused = error.failure_class is FailureClass.REJECTED
            return _in_batch_form(error, "refused" if refused else FAILED)
        return {"status": "changed", "error": None}

    return send


def _result(results: dict[Any, dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """Returns the LMS's result for one item; a failure if the LMS left the item out."""
    try:
        return batch.result_of(results, row["pk"])
    except LmsError as error:
        return _in_batch_form(error, FAILED)


def _in_batch_form(error: LmsError, status: str) -> dict[str, Any]:
    told = {"code": error.code, "message": error.message}
    return {"status": status, "error": told, "request_id": error.request_id}


def _code(result: dict[str, Any] | None) -> str:
    error = result.get("error") if result else None
    return str(error["code"]) if error else ""


def _content(row: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the values of the row. If one of them changes, a refused row is tried again."""
    names = ("pk", "username", "course", "mode", "attempts", "wanted", "change_status")
    return tuple(row.get(name) for name in names)


def _what(row: dict[str, Any]) -> str:
    return f"{row['email']} in {row['course']}"
