"""The batch API: endpoints of ``usher.lms`` that take hundreds of items in one request."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from usher.client.client import LmsClient, not_the_lms_error, refusal
from usher.client.errors import BadAnswer, LmsError, Refused, ServerFailed, TimedOut
from usher.client.http import Answer
from usher.client.pacing import Pacing
from usher.client.payloads import (
    MAX_PAGES,
    ObservedLinks,
    as_list,
    identifier,
    moment,
    number,
    read_links,
    reading,
    text,
)
from usher.client.urgency import is_urgent, urgent
from usher.contract.failures import RegistrationError
from usher.contract.limits import BATCH_ITEMS_A_REQUEST
from usher.contract.paths import LmsPath
from usher.contract.refusals import sentence_of

ACCOUNTS, ENROLLMENTS, COURSE_RUNS = "accounts", "enrollments", "course-runs"
_PATHS = {
    ACCOUNTS: LmsPath.USHER_ACCOUNTS,
    ENROLLMENTS: LmsPath.USHER_ENROLLMENTS,
    COURSE_RUNS: LmsPath.USHER_COURSE_RUNS,
}
#: Seconds after which the LMS is asked again whether it has the batch API.
_CAPABILITIES_SECONDS = 300.0
_GROUP = "batch"
#: The statuses that the LMS may give an item.
STATUSES = ("created", "updated", "exists", "changed", "unchanged", "refused")
_CHANGES_A_PAGE = 5000
_MAX_CURSOR_LENGTH = 500
#: An item's position in a batch, as the LMS writes it in a refusal.
_POSITION = re.compile(r"[0-9]{1,9}")
#: How far the LMS's clock may be ahead of this machine's before its answer is refused.
_MAX_CLOCK_DIFFERENCE = timedelta(days=1)

_lock = threading.Lock()
#: What is known about each client's LMS, until the client is no longer used: the pace of batches,
#: the application's name in the LMS, and when the LMS last said what it takes in batches.
_paces: WeakKeyDictionary[LmsClient, Pacing] = WeakKeyDictionary()
_application_names: WeakKeyDictionary[LmsClient, str] = WeakKeyDictionary()
_cached_capabilities: WeakKeyDictionary[LmsClient, tuple[float, frozenset[str] | None]] = (
    WeakKeyDictionary()
)


def capabilities(lms: LmsClient) -> frozenset[str] | None:
    """Which of ``accounts``, ``enrollments`` and ``course-runs`` the LMS takes in batches. Empty if
    ``usher.lms`` isn't installed in the LMS. None if the capabilities are not known now, so that
    the caller must ask again later.

    Returns an empty set only after the LMS has shown the service worker's account: another server
    at the address must not count as an LMS without ``usher.lms``.
    """
    with _lock:
        asked_at, cached = _cached_capabilities.get(lms, (0.0, None))
    if cached is not None and time.monotonic() - asked_at < _CAPABILITIES_SECONDS:
        return cached
    try:
        with urgent():  # no batch is sent before the answer is known
            body = _get_or_none(lms, LmsPath.USHER_API)
            cached = _read_capabilities(body)
            if not cached:
                lms.confirm_lms()
    except LmsError:
        return None
    with _lock:
        _cached_capabilities[lms] = (time.monotonic(), cached)
        _application_names[lms] = _read_application_name(body)
    return cached


def application_name(lms: LmsClient, *, ask: bool = False) -> str:
    """The application's name in the LMS, as in the last answer that ``capabilities`` has read; ''
    if the name is not known. ask: call ``capabilities`` first, which sends a request unless its
    last answer is recent."""
    if ask:
        capabilities(lms)
    with _lock:
        return _application_names.get(lms, "")


def _read_application_name(body: Any) -> str:
    """The name in an answer of ``/usher/api/v1/``, which lists the caller's application alone."""
    applications = body.get("applications") if isinstance(body, dict) else None
    if not isinstance(applications, list) or len(applications) != 1:
        return ""
    (application,) = applications
    name = application.get("name") if isinstance(application, dict) else None
    # The name becomes part of a command that a person copies.
    is_plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name)
    return str(name) if is_plain else ""


def outbox(lms: LmsClient) -> tuple[int, float] | None:
    """The number of messages that the LMS has not delivered to this application yet, and the age of
    the oldest in seconds; None if the LMS doesn't report them. Raises LmsError."""
    body = _get_or_none(lms, LmsPath.USHER_API, {"outbox": 1})
    outbox_data = body.get("outbox") if isinstance(body, dict) else None
    if outbox_data is None:
        return None
    return reading(
        "an outbox",
        lambda: (
            number(outbox_data["waiting"], "a number of messages"),
            float(number(outbox_data["oldest_seconds"], "an age in seconds")),
        ),
    )


def links_of(lms: LmsClient, username: str) -> ObservedLinks | None:
    """Which LMS account the application's learner of that name signs in to; None if the answer is
    not JSON with the status 200, as from an LMS whose ``usher.lms`` is missing or too old. Raises
    LmsError."""
    query = {"username": username, "client_id": lms.who.client_id}
    body = _get_or_none(lms, LmsPath.USHER_LINKS, query)
    return None if body is None else read_links(body)


def _get_or_none(lms: LmsClient, path: str, params: Mapping[str, Any] | None = None) -> Any:
    """The JSON of an answer with status 200; None for another status, or a body that is not
    JSON."""
    answer = lms.http.request("GET", path, group=_GROUP, params=params, token=lms.who.service_token)
    return answer.json_or_none() if answer.status == 200 else None


def _forget_capabilities(lms: LmsClient) -> None:
    """Forgets the LMS's capabilities after a batch endpoint gave an unexpected answer. The next
    call requests them again."""
    with _lock:
        _cached_capabilities.pop(lms, None)


def _read_capabilities(body: Any) -> frozenset[str]:
    """The capabilities in an answer of ``/usher/api/v1/``: a list, or a mapping that says of each
    capability whether it is offered. An answer without either means all. Raises
    BadAnswer if they have another shape."""
    if not isinstance(body, dict):
        return frozenset()
    capabilities_data = body.get("capabilities", list(_PATHS))
    if isinstance(capabilities_data, Mapping):
        capabilities_data = [name for name, is_offered in capabilities_data.items() if is_offered]
    names = reading(
        "the batch API's capabilities", lambda: [str(name) for name in as_list(capabilities_data)]
    )
    return frozenset(_PATHS) & frozenset(names)


class Results(dict[Any, dict[str, Any]]):
    """Id of an item → its result. error: why the items without a result were not sent, or None."""

    error: LmsError | None = None


def send(
    lms: LmsClient, capability: str, items: Sequence[Mapping[str, Any]], **fields: Any
) -> Results:
    """Sends items and returns their results; read them with ``result_of``.

    capability: ``ACCOUNTS``, ``ENROLLMENTS`` or ``COURSE_RUNS``. items: each with an ``id``, unique
    in this call. fields: further fields of the request. The items are sent in requests that the LMS
    answers in about a second (``usher.client.pacing``). Sending the same items again is safe: the
    endpoints are idempotent. Raises LmsError if the first request fails. If a later request
    fails, its items and all following items have no result, and ``result_of`` raises the error.
    """
    results, pace = Results(), _pacing(lms)
    remaining = list(items)
    while remaining:
        with pace.turn(capability, urgent=is_urgent()) as size:
            batch, remaining = remaining[:size], remaining[size:]
            try:
                results.update(_send_timed(lms, capability, batch, fields, pace))
            except LmsError as error:
                if not results:
                    raise
                results.error = error
                return results
        if not is_urgent() and pace.claim_probe():
            _probe(lms, capability, pace)
    return results


def _pacing(lms: LmsClient) -> Pacing:
    """The pace of batches for this LMS, one for all kinds: they share the LMS's processes."""
    with _lock:
        return _paces.setdefault(lms, Pacing(BATCH_ITEMS_A_REQUEST, lms.http.state))


def _send_timed(
    lms: LmsClient,
    capability: str,
    items: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any],
    pace: Pacing,
) -> dict[Any, dict[str, Any]]:
    """The results of one batch, whose time or failure is recorded in ``pace``."""
    # The repeated request has the same id: if only the answer was lost, the LMS sends the same
    # answer again.
    body = {"items": items, "request_id": secrets.token_hex(16), **fields}
    started = time.monotonic()
    try:
        try:
            results = _send_once(lms, capability, body)
        except TimedOut:
            # The LMS may still be processing the request, or have just finished.
            results = _send_once(lms, capability, body)
    except (TimedOut, ServerFailed):
        pace.record_failure(capability)
        raise
    pace.record_time(capability, len(items), time.monotonic() - started)
    return results


def _probe(lms: LmsClient, capability: str, pace: Pacing) -> None:
    """Sends a small request, and records in ``pace`` how long the LMS took for it."""
    try:
        with urgent():  # otherwise the time would include the wait for the budget of requests
            pace.probe(lambda: _get_or_none(lms, LmsPath.USHER_API))
    except LmsError:
        pace.record_failure(capability)


class _InvalidItems(Exception):
    """The LMS refuses items. errors: position of an item → field → what is wrong with it."""

    def __init__(self, errors: dict[int, dict[str, str]]) -> None:
        super().__init__()
        self.errors = errors


def _send_once(
    lms: LmsClient, capability: str, body: Mapping[str, Any]
) -> dict[Any, dict[str, Any]]:
    """The results of one request. If the LMS refuses the request because of invalid items, it is
    sent again without these items."""
    try:
        return _post(lms, capability, body)
    except _InvalidItems as invalid:
        errors, items = invalid.errors, body["items"]
    request_id = {"request_id": body["request_id"]}
    results = {
        item["id"]: _invalid_item_result(errors[position]) | request_id
        for position, item in enumerate(items)
        if position in errors
    }
    valid_items = [item for position, item in enumerate(items) if position not in errors]
    if not results:
        raise BadAnswer("The LMS refuses items of a batch that were not in the request.")
    if valid_items:
        corrected_body = {**body, "items": valid_items, "request_id": secrets.token_hex(16)}
        results |= _send_once(lms, capability, corrected_body)
    return results


def _invalid_item_result(fields: dict[str, str]) -> dict[str, Any]:
    """The result of an invalid item."""
    message = "; ".join(f"{name}: {error_text}" for name, error_text in fields.items())
    error = {"code": RegistrationError.VALIDATION.value, "message": message, "fields": fields}
    return {"status": "refused", "error": error}


def _read_invalid_items(body: Any) -> dict[int, dict[str, str]]:
    """Position of an item → field → message, from a refusal of Django REST framework. The framework
    gives either a mapping of positions or a list with one entry for each item."""
    items = body.get("items") if isinstance(body, dict) else None
    if isinstance(items, list):
        items = dict(enumerate(items))
    if not isinstance(items, dict):
        return {}
    invalid_items = {}
    for position, fields in items.items():
        has_errors = isinstance(fields, dict) and fields
        if has_errors and _POSITION.fullmatch(str(position)):
            invalid_items[int(position)] = {
                text(name, max_length=64): _message_of(errors) for name, errors in fields.items()
            }
    return invalid_items


def _message_of(errors: Any) -> str:
    return text(sentence_of(errors), max_length=400)


def _post(lms: LmsClient, capability: str, body: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    """Sends one batch. Returns each item's id → its result, with the id of the request."""
    answer = lms.http.request(
        "POST",
        _PATHS[capability],
        group=_GROUP,
        json_body=body,
        token=lms.who.service_token,
        again=True,
        request_id=body["request_id"],
    )
    answer_body = _json_or_refusal(lms, answer)
    ids = {item["id"] for item in body["items"]}
    return reading(
        "a batch", lambda: _results_by_id(answer_body["results"], ids, body["request_id"])
    )


def _results_by_id(results: Any, ids: Set[Any], request_id: str) -> dict[Any, dict[str, Any]]:
    """Id → result, with the id of the request, for the items of these ids.

    Leaves out results without an id, results of other items, and items with several results, since
    nothing shows which of them is true. Raises TypeError if ``results`` is no list.
    """
    own_results = []
    for result in as_list(results):
        item_id = result.get("id") if isinstance(result, dict) else None
        # True and 1.0 are equal to 1, but they are no ids of items.
        has_id = type(item_id) in (int, str)
        if has_id and item_id in ids:
            own_results.append(result)
    counts = Counter(result["id"] for result in own_results)
    return {
        result["id"]: result | {"request_id": request_id}
        for result in own_results
        if counts[result["id"]] == 1
    }


def _json_or_refusal(lms: LmsClient, answer: Answer) -> Any:
    """The JSON of a successful answer. Raises _InvalidItems or another refusal for the statuses of
    the batch API. For any other status, forgets the LMS's capabilities and raises NotTheLms: then
    no batch endpoint answered, and the status says nothing about the items."""
    if answer.status < 300:
        return answer.json()
    if answer.status in (400, 401, 403, 422):
        error = refusal(answer)
        invalid_items = _read_invalid_items(answer.json_or_none())
        if isinstance(error, Refused) and invalid_items:
            raise _InvalidItems(invalid_items)
        raise error
    _forget_capabilities(lms)
    raise not_the_lms_error(answer)


def result_of(results: Mapping[Any, dict[str, Any]], item_id: Any) -> dict[str, Any]:
    """The result of one item: a dictionary with ``status``, one of ``STATUSES``, and ``error``.

    ``error`` is None, or for a refused item a dictionary: ``code`` and ``message`` (str),
    ``suggestions`` (list of str) and ``fields`` (name of a field → message).
    Raises BadAnswer if the LMS left the item out or its result has another shape, and LmsError if
    the item failed or was not sent.
    """
    result = results.get(item_id)
    if result is None and isinstance(results, Results) and results.error is not None:
        raise results.error
    if not isinstance(result, dict) or "status" not in result:
        raise BadAnswer(f"The LMS gave no result for the item {item_id} of a batch.")
    status = result["status"]
    error = reading("a refusal", lambda: _read_reason(result.get("error")))
    if status == "failed" and error:
        raise LmsError(error["message"], code=error["code"])
    if status not in STATUSES or bool(error) != (status == "refused"):
        raise BadAnswer(
            f"The LMS's batch API gave an unknown result for the item {item_id} of a batch."
        )
    return {**result, "error": error}


def corrected_items(
    items: Iterable[dict[str, Any]], results: Mapping[Any, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The refused items of ``ACCOUNTS``, without the name or country that the LMS refused: such a
    value must not hold back the others. Leaves out an item of which the LMS refused something else
    too. results: those of ``items``."""
    corrected = []
    for item in items:
        try:
            error = result_of(results, item["id"])["error"]
        except LmsError:
            continue
        refused_fields = set(error["fields"]) if error else set()
        if refused_fields and refused_fields <= {"name", "country"}:
            # '' leaves the LMS's value.
            corrected.append({**item, **dict.fromkeys(refused_fields, "")})
    return corrected


def refusal_of(result: Mapping[str, Any], error_class: type[Refused] = Refused) -> Refused:
    """The error for a refused item. result: from ``result_of``. error_class: the class of the
    error."""
    error = error_class(result["error"]["message"], code=result["error"]["code"])
    return error.with_request_id(result.get("request_id", ""))


def _read_reason(error: Any) -> dict[str, Any] | None:
    """The ``error`` of a result, checked and shortened. An unexpected shape raises an exception."""
    if error is None:
        return None
    suggestions, fields = error.get("suggestions") or [], error.get("fields") or {}
    message = sentence_of(text(error.get("message"), max_length=2000))
    return {
        "code": text(error.get("code"), max_length=64) or "refused",
        "message": message[:400] or "refused without a reason",
        "suggestions": [
            suggestion for suggestion in as_list(suggestions) if isinstance(suggestion, str)
        ],
        "fields": {
            text(field, max_length=64): text(field_message, max_length=400)
            for field, field_message in fields.items()
        },
    }


class ChangesPage(NamedTuple):
    """One page of the LMS's changes. next_cursor: the cursor of the next page, '' for none.
    next_since: the time for ``since`` when changes are requested the next time, ISO. Use that of
    the first page: later ones may miss changes made while the pages were read."""

    changed_objects: list[dict[str, Any]]
    next_cursor: str
    next_since: str


def pages_of_changes(
    lms: LmsClient, capability: str, since: datetime | None
) -> Iterator[ChangesPage]:
    """All pages of the LMS's changes; parameters as for ``changed_since``. Iterating raises
    LmsError, also for a list that does not end."""
    cursor = ""
    for _ in range(MAX_PAGES):
        page = changed_since(lms, capability, since, cursor)
        yield page
        if not page.next_cursor:
            return
        if page.next_cursor == cursor:
            raise BadAnswer("The LMS's list of changes does not end: it repeats a cursor.")
        cursor = page.next_cursor
    raise BadAnswer(f"The LMS's list of changes has more than {MAX_PAGES} pages.")


def changed_since(
    lms: LmsClient, capability: str, since: datetime | None, cursor: str = ""
) -> ChangesPage:
    """One page of the LMS's changes since that time.

    capability: ``ACCOUNTS``, ``ENROLLMENTS`` or ``COURSE_RUNS``. since: None for all objects.
    cursor: the cursor of the page, '' for the first page. Raises LmsError."""
    params: dict[str, Any] = {"client_id": lms.who.client_id}
    if since is not None:
        params["changed_since"] = since.isoformat()
    if cursor:
        params["cursor"] = cursor
    answer = lms.http.request(
        "GET", _PATHS[capability], group=_GROUP, params=params, token=lms.who.service_token
    )
    body = _json_or_refusal(lms, answer)
    return reading("changes", lambda: _changes(body))


def _changes(body: Any) -> ChangesPage:
    """The page in an answer. Raises an exception, for ``reading``, for an unexpected shape."""
    changed_objects, now = as_list(body["results"]), moment(body["now"])
    if len(changed_objects) > _CHANGES_A_PAGE:
        raise ValueError(f"more than {_CHANGES_A_PAGE} changes on a page")
    if now is None:
        raise ValueError("no time of the answer")
    if now > datetime.now(UTC) + _MAX_CLOCK_DIFFERENCE:
        # If this time were used as ``since``, the LMS would report no changes made before it.
        raise ValueError("a time that is too far in the future")
    cursor = body["next"] or ""
    if cursor:
        cursor = identifier(cursor, "a cursor", max_length=_MAX_CURSOR_LENGTH)
    return ChangesPage(changed_objects, next_cursor=cursor, next_since=now.isoformat())
