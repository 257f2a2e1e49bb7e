"""Enrolls and unenrolls learners in the LMS, and records the results in the application."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from usher.client import batch
from usher.client.client import NAMES_A_REQUEST
from usher.client.errors import LmsError
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import Selection
from usher.sidecar.learners import name_in_reports
from usher.sidecar.parallel import in_parallel
from usher.sidecar.session import Session
from usher.sidecar.summary import FAILED, REFUSED, Summary

ENROLLMENT, UNENROLLMENT = "enrollment", "unenrollment"
#: Enrollments in a batch.
BATCH_SIZE = 300
#: Error codes for a mode that the LMS does not offer: the batch API's code, and the client's code
#: for the public API's message.
_MODE_REFUSED_CODES = ("mode-unavailable", "mode-not-offered")

Items = list[dict[str, Any]]
Results = dict[Any, dict[str, Any]]


class EnrolledRow(NamedTuple):
    """A row whose enrollment the LMS has. is_new: whether this pass made or changed the
    enrollment."""

    row: dict[str, Any]
    is_new: bool


class Send(Protocol):
    """Sends items of the batch API and returns its results: ``id`` → result.

    fallback_mode: the mode for items whose own mode the LMS does not offer; '' to let the LMS
    refuse these items.
    """

    def __call__(self, items: Items, fallback_mode: str = "") -> Results: ...


def reconcile_enrollments(
    session: Session, due: Selection, summary: Summary, *, batched: bool, unenrolls: bool = False
) -> None:
    """Creates the enrollments in ``due`` in the LMS. unenrolls: ends enrollments in the LMS
    instead; ``due`` then holds enrollments that the application ended, but could not end in the
    LMS. Raises LmsError if the LMS refuses all learners for the same reason."""
    kind = UNENROLLMENT if unenrolls else ENROLLMENT
    with ThreadPoolExecutor(session.concurrency, thread_name_prefix="enrollment") as pool:
        send = make_sender(session, pool, batched=batched)

        def process_page(rows: list[dict[str, Any]]) -> None:
            with claim_due_rows(kind, rows, summary) as claimed_rows:
                if not claimed_rows:
                    return
                if unenrolls:
                    _unenroll(session, claimed_rows, send, summary)
                else:
                    enroll(session, claimed_rows, send, summary)

        pages = read_enrollment_pages(session, due)
        with in_parallel(process_page, pages) as finished_pages:
            for _ in finished_pages:
                summary.report_progress()


@contextmanager
def claim_due_rows(
    kind: str, rows: list[dict[str, Any]], summary: Summary
) -> Iterator[list[dict[str, Any]]]:
    """Claims rows until the block ends, and yields them. Leaves out rows whose pause after a
    failure or refusal has not ended, and rows that another thread has claimed."""
    due = [row for row in rows if summary.row_memory.is_due(kind, _retry_key(row))]
    # Claimed as ENROLLMENT whatever the kind, because all kinds write to the same table.
    with summary.row_memory.claim(ENROLLMENT, [row["pk"] for row in due]) as claimed_keys:
        yield [row for row in due if row["pk"] in claimed_keys]


def read_enrollment_pages(session: Session, due: Selection) -> Iterator[list[dict[str, Any]]]:
    """Yields pages of enrollments with the sidecar's names and ``username``, the learner's LMS
    username. Leaves out the enrollments of learners who have no LMS username yet."""
    table = session.adapter.enrollments
    username_path = session.adapter.enrollment_username
    pages = session.agent.pages(
        model=table.model, fields=[*table.paths, username_path], limit=BATCH_SIZE, **due.request()
    )
    for page in pages:
        rows = []
        for row in page["rows"]:
            if row[username_path]:
                rows.append({**table.rename_columns(row), "username": row[username_path]})
        if page["rows"]:
            yield rows


def enroll(
    session: Session,
    rows: list[dict[str, Any]],
    send: Send,
    summary: Summary,
    kind: str = ENROLLMENT,
) -> None:
    """Enrolls and records the results. rows: the application's, with the sidecar's names. kind:
    ENROLLMENT, or a kind of ``comparing``, for which the application's rows are not changed. Raises
    LmsError if the LMS refuses all learners for the same reason."""
    fallback_mode = session.adapter.fallback_mode if kind == ENROLLMENT else ""
    try:
        results = send([_batch_item(session, row) for row in rows], fallback_mode)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for row in rows:
            summary.add_error(kind, _learner_and_run(row), error, _retry_key(row))
        return
    enrolled = []
    for row in rows:
        result = _result_of_row(results, row)
        if result["status"] == FAILED:
            summary.add_result(kind, FAILED, _learner_and_run(row), result, _retry_key(row))
        elif result["error"]:
            _add_refusal(session, row, result, summary, kind)
        else:
            enrolled.append(EnrolledRow(row, is_new=result["status"] == "changed"))
    if enrolled:
        _record_enrolled(session, enrolled, send, summary, kind)


def _batch_item(session: Session, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the batch API's item that enrolls. ``force``: even in a closed run or an expired
    mode, as the application's own code does."""
    return {
        "id": row["pk"],
        "username": row["username"],
        "course_id": row["course"],
        "mode": row.get("mode") or session.adapter.enrollment_mode,
        "is_active": True,
        "force": True,
    }


def _item_to_end(session: Session, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the batch API's item that ends the enrollment, whatever its mode."""
    return {**_batch_item(session, row), "is_active": False, "mode": ""}


def _record_enrolled(
    session: Session,
    enrolled: list[EnrolledRow],
    send: Send,
    summary: Summary,
    kind: str,
) -> None:
    """Records results. A row that changed meanwhile is not written; if it was refunded, the new
    enrollment is ended. kind: for ``ENROLLMENT`` values are set in the rows; for the kinds of
    ``comparing``, the agent only finds the rows that changed meanwhile."""
    values_to_set = _values_to_set(session, enrolled=True) if kind == ENROLLMENT else {}
    rows = [row for row, _ in enrolled]
    write_results = _write(session, rows, values_to_set)
    changed_meanwhile = []
    for (row, is_new), write_result in zip(enrolled, write_results, strict=True):
        summary.add_write(kind, _learner_and_run(row), write_result, _retry_key(row))
        if is_new and write_result["outcome"] in ("changed", "gone"):
            changed_meanwhile.append(row)
    if changed_meanwhile:
        _end_obsolete_enrollments(session, changed_meanwhile, send, summary)


def _write(
    session: Session, rows: list[dict[str, Any]], values: dict[str, Any]
) -> list[dict[str, Any]]:
    """Writes these values to each row that has not changed since it was read. Returns the agent's
    outcomes, in the order of ``rows``."""
    outcomes: list[dict[str, Any]] = session.agent.ask(
        "write",
        model=session.adapter.enrollments.model,
        save_method="save_and_log",
        audit=session.adapter.audit.request(),
        rows=[
            {"pk": row["pk"], "expect": _expected_values(session, row), "set": values}
            for row in rows
        ],
    )
    return outcomes


def _values_to_set(session: Session, *, enrolled: bool) -> dict[str, Any]:
    """Returns column → value that the application's own code sets when it enrolls or unenrolls."""
    further_values = session.adapter.when_enrolled if enrolled else session.adapter.when_unenrolled
    values = {"enrolled": enrolled, **further_values}
    columns = session.adapter.enrollments.columns
    return {columns[name]: value for name, value in values.items()}


def _expected_values(session: Session, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that the row must still have when the result is written, since the
    enrollment was made for these values."""
    names = ("is_active", "enrolled", "change_status", "mode")
    columns = session.adapter.enrollments.columns
    return {columns[name]: row[name] for name in names if name in columns}


def _end_obsolete_enrollments(
    session: Session, rows: list[dict[str, Any]], send: Send, summary: Summary
) -> None:
    """Ends enrollments that this pass made for rows that were refunded or deleted meanwhile, unless
    the learner has another active row for the run. No column shows that these enrollments must be
    ended, so failures are reported. Raises LmsError if the LMS refuses all of them for the same
    reason, after reporting it."""
    obsolete = _without_active_row(session, rows)
    if not obsolete:
        return
    try:
        results = send([_item_to_end(session, row) for row in obsolete])
    except LmsError as error:
        for row in obsolete:
            _add_failed_end(row, _in_batch_form(error, FAILED), summary)
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        return
    for row in obsolete:
        result = _result_of_row(results, row)
        if result["error"]:
            _add_failed_end(row, result, summary)


def _add_failed_end(row: dict[str, Any], result: dict[str, Any], summary: Summary) -> None:
    """Counts the failure to end an obsolete enrollment. result: the LMS's, with an error."""
    reason = (
        "ended here while it was created in the LMS, where it is still active: "
        f"{result['error']['message']}"
    )
    result_with_reason = {**result, "error": {**result["error"], "message": reason}}
    summary.add_result(ENROLLMENT, FAILED, _learner_and_run(row), result_with_reason)


def _without_active_row(session: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows whose learner has no active row without a change status, such as a refund,
    for the same run; an active row may be one of another order."""
    columns = session.adapter.enrollments.columns
    is_active_row = {
        f"{columns['user']}__in": sorted({row["user"] for row in rows}),
        f"{columns['course']}__in": sorted({row["course"] for row in rows}),
        columns["is_active"]: True,
        f"{columns['change_status']}__isnull": True,
    }
    active_users_and_courses = set()
    for page in read_enrollment_pages(session, Selection(filter=(is_active_row,))):
        for row in page:
            active_users_and_courses.add((row["user"], row["course"]))
    return [row for row in rows if (row["user"], row["course"]) not in active_users_and_courses]


def _unenroll(session: Session, rows: list[dict[str, Any]], send: Send, summary: Summary) -> None:
    """Ends the enrollments in the LMS, except those that are not active in the LMS or that another
    active row of the learner needs, and records the results. Raises LmsError if the LMS refuses all
    learners for the same reason."""
    try:
        active_in_lms = _active_in_lms(session, rows)
        rows_to_end = [
            row
            for row in _without_active_row(session, rows)
            if (row["username"], row["course"]) in active_in_lms
        ]
        results = send([_item_to_end(session, row) for row in rows_to_end])
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        for row in rows:
            summary.add_error(UNENROLLMENT, _learner_and_run(row), error, _retry_key(row))
        return
    keys_to_end = {row["pk"] for row in rows_to_end}
    rows_to_record = []
    for row in rows:
        if row["pk"] not in keys_to_end:
            rows_to_record.append(row)
            continue
        result = _result_of_row(results, row)
        if result["error"]:
            outcome = FAILED if result["status"] == FAILED else REFUSED
            what = _learner_and_run(row)
            summary.add_result(UNENROLLMENT, outcome, what, result, _retry_key(row))
        else:
            rows_to_record.append(row)
    if rows_to_record:
        _record_unenrolled(session, rows_to_record, send, summary)


def _active_in_lms(session: Session, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Returns (username, course key) of all active enrollments of these rows' learners in the
    LMS."""
    usernames = sorted({row["username"] for row in rows})
    active = set()
    for start in range(0, len(usernames), NAMES_A_REQUEST):
        for enrollment in session.lms.enrollments_of(usernames[start : start + NAMES_A_REQUEST]):
            if enrollment.is_active:
                active.add((enrollment.username, enrollment.course_key))
    return active


def _record_unenrolled(
    session: Session, ended: list[dict[str, Any]], send: Send, summary: Summary
) -> None:
    """Records ended enrollments. A learner who enrolled again meanwhile is enrolled again in the
    LMS."""
    write_results = _write(session, ended, _values_to_set(session, enrolled=False))
    keys_of_unwritten_rows = []
    for row, write_result in zip(ended, write_results, strict=True):
        what = _learner_and_run(row)
        if not summary.add_write(UNENROLLMENT, what, write_result, _retry_key(row)):
            keys_of_unwritten_rows.append(row["pk"])
    if not keys_of_unwritten_rows:
        return
    rows_active_again = []
    unwritten = Selection(filter=({"pk__in": keys_of_unwritten_rows},))
    for page in read_enrollment_pages(session, unwritten):
        rows_active_again += [row for row in page if row["is_active"] and not row["change_status"]]
    if rows_active_again:
        send([_batch_item(session, row) for row in rows_active_again])


def _add_refusal(
    session: Session, row: dict[str, Any], result: dict[str, Any], summary: Summary, kind: str
) -> None:
    """Adds a refusal to ``summary``. For enrollments, also counts it in the application's own
    column of attempts, if there is one, so that the application gives up as usual. If staff reset
    the count, the enrollment is tried again immediately."""
    what = _learner_and_run(row)
    column = session.adapter.enrollments.columns.get("attempts")
    if column is None or kind != ENROLLMENT:
        summary.add_result(kind, REFUSED, what, result, _retry_key(row))
        return
    attempts = row["attempts"]
    # The pause holds for the row with the new count.
    retry_key = _retry_key({**row, "attempts": attempts + 1})
    summary.add_result(kind, REFUSED, what, result, retry_key)
    session.agent.ask(
        "write",
        model=session.adapter.enrollments.model,
        rows=[
            {
                "pk": row["pk"],
                "expect": {**_expected_values(session, row), column: attempts},
                "set": {column: attempts + 1},
            }
        ],
    )


def make_sender(session: Session, pool: ThreadPoolExecutor, *, batched: bool) -> Send:
    """Returns a function that enrolls. batched: with the batch API; otherwise with the public API,
    by the threads of ``pool``."""
    return _batch_sender(session) if batched else _public_sender(session, pool)


def _batch_sender(session: Session) -> Send:
    """Returns a function that enrolls with the batch API, and then in the fallback mode those whose
    mode was refused."""

    def send(items: Items, fallback_mode: str = "") -> Results:
        results = batch.send(session.lms, batch.ENROLLMENTS, items)
        if not fallback_mode:
            return results
        items_in_fallback_mode = [
            {**item, "mode": fallback_mode}
            for item in items
            if _error_code(results.get(item["id"])) in _MODE_REFUSED_CODES
        ]
        if items_in_fallback_mode:
            results |= batch.send(session.lms, batch.ENROLLMENTS, items_in_fallback_mode)
        return results

    return send


def _public_sender(session: Session, pool: ThreadPoolExecutor) -> Send:
    """Returns a function that enrolls with the public API, one request for each item, several at a
    time. Its results have the batch API's form.

    After the LMS has refused a mode for a run, that mode is not requested again: an LMS allows some
    hundred requests in a minute, and refused ones count.
    """
    # (course key, mode)
    not_offered: set[tuple[str, str]] = set()

    def send(items: Items, fallback_mode: str = "") -> Results:
        def result_of(item: dict[str, Any]) -> dict[str, Any]:
            if fallback_mode:
                return enroll_with_fallback(item, fallback_mode)
            return enroll_in_mode(item, item["mode"])

        results = pool.map(result_of, items)
        return {item["id"]: result for item, result in zip(items, results, strict=True)}

    def enroll_with_fallback(item: dict[str, Any], fallback_mode: str) -> dict[str, Any]:
        course_and_mode = (item["course_id"], item["mode"])
        if course_and_mode in not_offered:
            return enroll_in_mode(item, fallback_mode)
        result = enroll_in_mode(item, item["mode"])
        if _error_code(result) in _MODE_REFUSED_CODES:
            not_offered.add(course_and_mode)
            return enroll_in_mode(item, fallback_mode)
        return result

    def enroll_in_mode(item: dict[str, Any], mode: str) -> dict[str, Any]:
        try:
            session.lms.enroll(
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


def _result_of_row(results: dict[Any, dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """Returns the LMS's result for one item; a failure if the LMS left the item out."""
    try:
        return batch.result_of(results, row["pk"])
    except LmsError as error:
        return _in_batch_form(error, FAILED)


def _in_batch_form(error: LmsError, status: str) -> dict[str, Any]:
    """Returns an error as the batch API's result of one item."""
    error_data = {"code": error.code, "message": error.message}
    return {"status": status, "error": error_data, "request_id": error.request_id}


def _error_code(result: dict[str, Any] | None) -> str:
    """Returns the code of a refusal or failure in the batch API's form; '' if there is none."""
    error = result.get("error") if result else None
    return str(error["code"]) if error else ""


def _retry_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the values of the row. If one of them changes, a refused row is tried again."""
    names = ("pk", "username", "course", "mode", "attempts", "is_active", "change_status")
    return tuple(row.get(name) for name in names)


def _learner_and_run(row: dict[str, Any]) -> str:
    return f"{name_in_reports(row['email'], row['user'])} in {row['course']}"
