"""The batch API: endpoints of ``usher.lms``, hundreds of rows a request, where they answer."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from usher.client.client import LmsClient, not_the_lms, refusal
from usher.client.errors import BadAnswer, LmsError, Refused, ServerFailed, TimedOut
from usher.client.http import Answer
from usher.client.pacing import Pacing
from usher.client.payloads import LinksSeen, moment, name, number, read_links, reading, text
from usher.client.payloads import items as list_of
from usher.client.urgency import is_urgent, urgent
from usher.contract.failures import RegistrationError
from usher.contract.limits import BATCH_ITEMS_A_REQUEST
from usher.contract.paths import LmsPath

ACCOUNTS, ENROLLMENTS, COURSE_RUNS = "accounts", "enrollments", "course-runs"
_PATHS = {
    ACCOUNTS: LmsPath.USHER_ACCOUNTS,
    ENROLLMENTS: LmsPath.USHER_ENROLLMENTS,
    COURSE_RUNS: LmsPath.USHER_COURSE_RUNS,
}
#: Seconds for which the LMS is believed to have, or not to have, the batch API.
_BELIEVED = 300.0
_GROUP = "batch"
#: What the LMS may say of an item.
STATUSES = ("created", "updated", "exists", "changed", "unchanged", "refused")
_CHANGES_A_PAGE = 5000
_LONGEST_CURSOR = 500
#: How far the LMS's clock may be ahead of this machine's.
_AHEAD = timedelta(days=1)

_lock = threading.Lock()
_paces: WeakKeyDictionary[LmsClient, dict[str, Pacing]] = WeakKeyDictionary()
_known: WeakKeyDictionary[LmsClient, tuple[float, frozenset[str] | None]] = WeakKeyDictionary()


def capabilities(lms: LmsClient) -> frozenset[str] | None:
    """What of ``accounts``, ``enrollments``, ``course-runs`` the LMS does in batches: empty where
    ``usher.lms`` isn't installed. None when that can't be told now: ask again later.

    An LMS that had them is believed to have lost them only when it shows that it is the LMS.
    """
    with _lock:
        asked, found = _known.get(lms, (0.0, None))
    if found is not None and time.monotonic() - asked < _BELIEVED:
        return found
    try:
        with urgent():  # nothing else is sent before this is known
            found = _read(_told(lms, LmsPath.USHER_API))
            if not found:
                lms.confirm()
    except LmsError:
        return None
    with _lock:
        _known[lms] = (time.monotonic(), found)
    return found


def outbox(lms: LmsClient) -> tuple[int, float] | None:
    """How many messages the LMS has yet to send to this application, and for how many seconds the
    oldest has waited; None where it doesn't tell. Raises LmsError."""
    body = _told(lms, LmsPath.USHER_API, {"outbox": 1})
    found = body.get("outbox") if isinstance(body, dict) else None
    if found is None:
        return None
    return reading(
        "an outbox",
        lambda: (
            number(found["waiting"], "a number of messages"),
            float(number(found["oldest_seconds"], "an age in seconds")),
        ),
    )


def links_of(lms: LmsClient, username: str) -> LinksSeen | None:
    """By which account the application's learner of that name signs in to the LMS; None where the
    LMS doesn't tell: it has no ``usher.lms``, or an older one. Raises LmsError."""
    asked = {"username": username, "client_id": lms.who.client_id}
    body = _told(lms, LmsPath.USHER_LINKS, asked)
    return None if body is None else read_links(body)


def _told(lms: LmsClient, path: str, params: Mapping[str, Any] | None = None) -> Any:
    """The JSON of a good answer; None for any other."""
    answer = lms.http.request("GET", path, group=_GROUP, params=params, token=lms.who.service_token)
    return answer.json_or_none() if answer.status == 200 else None


def _forget(lms: LmsClient) -> None:
    """Asks again for the LMS's capabilities, after a batch endpoint did not answer as one."""
    with _lock:
        _known.pop(lms, None)


def _read(body: Any) -> frozenset[str]:
    """The names in the answer; an answer that doesn't list them means all."""
    if not isinstance(body, dict):
        return frozenset()
    listed = body.get("capabilities", list(_PATHS))
    if isinstance(listed, Mapping):
        listed = [name for name, offered in listed.items() if offered]
    return frozenset(_PATHS) & frozenset(str(name) for name in listed)


class Results(dict[Any, dict[str, Any]]):
    """The result of each item, by its ``id``. error: why the rest was not carried out."""

    error: LmsError | None = None


def send(lms: LmsClient, what: str, items: Sequence[Mapping[str, Any]], **more: Any) -> Results:
    """The result of each item. Raises LmsError when nothing came of the first request; when a
    later one fails, the items from there on are missing and ``result_of`` raises for them.

    Sent in requests of a size that the LMS answers in about a second (``usher.client.pacing``).
    Sending the same items twice does no harm: the endpoints are idempotent.
    """
    found, pace = Results(), _pacing(lms, what)
    rest = list(items)
    while rest:
        with pace.turn(at_once=is_urgent()) as size:
            some, rest = rest[:size], rest[size:]
            try:
                found.update(_timed(lms, what, some, more, pace))
            except LmsError as error:
                if not found:
                    raise
                found.error = error
                return found
        if pace.probe_is_due():
            _probe(lms, pace)
    return found


def _pacing(lms: LmsClient, what: str) -> Pacing:
    with _lock:
        return _paces.setdefault(lms, {}).setdefault(
            what, Pacing(BATCH_ITEMS_A_REQUEST, time.monotonic)
        )


def _timed(
    lms: LmsClient,
    what: str,
    items: Sequence[Mapping[str, Any]],
    more: Mapping[str, Any],
    pace: Pacing,
) -> dict[Any, dict[str, Any]]:
    # The same id when the answer is lost: the LMS then finds what came of the first request.
    body = {"items": items, "request_id": secrets.token_hex(16), **more}
    started = time.monotonic()
    try:
        try:
            results = _send_once(lms, what, body)
        except TimedOut:
            # It is still at work, or has just finished.
            results = _send_once(lms, what, body)
    except (TimedOut, ServerFailed):
        pace.failed()
        raise
    pace.took(len(items), time.monotonic() - started)
    return results


def _probe(lms: LmsClient, pace: Pacing) -> None:
    """How long somebody waits who asks the LMS for little."""
    started = time.monotonic()
    try:
        with urgent():  # else the budget would be measured, and not the LMS
            lms.http.request("GET", LmsPath.USHER_API, token=lms.who.service_token)
    except LmsError:
        pace.failed()
    else:
        pace.probed(time.monotonic() - started)


class _InvalidItems(Exception):
    """errors: position of an item -> field -> what is wrong with it."""

    def __init__(self, errors: dict[int, dict[str, str]]) -> None:
        super().__init__()
        self.errors = errors


def _send_once(lms: LmsClient, what: str, body: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    """The LMS refuses a request with an invalid item as a whole: it is sent again without it."""
    try:
        return _sent(lms, what, body)
    except _InvalidItems as found:
        wrong, items = found.errors, body["items"]
    told = {"request_id": body["request_id"]}
    results = {
        item["id"]: _validation(wrong[position]) | told
        for position, item in enumerate(items)
        if position in wrong
    }
    rest = [item for position, item in enumerate(items) if position not in wrong]
    if not results:
        raise BadAnswer("The LMS refuses items of a batch that were not in it.")
    if rest:
        again = {**body, "items": rest, "request_id": secrets.token_hex(16)}
        results |= _send_once(lms, what, again)
    return results


def _validation(fields: dict[str, str]) -> dict[str, Any]:
    """The result of an invalid item."""
    message = "; ".join(f"{name}: {words}" for name, words in fields.items())
    error = {"code": RegistrationError.VALIDATION.value, "message": message, "fields": fields}
    return {"status": "refused", "error": error}


def _invalid(body: Any) -> dict[int, dict[str, str]]:
    """What the REST framework says of the items of a request: by position or in their order."""
    found = body.get("items") if isinstance(body, dict) else None
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return {}
    return {
        int(position): {text(name, 64): _words(words) for name, words in fields.items()}
        for position, fields in found.items()
        if isinstance(fields, dict) and fields
        if str(position).isascii() and str(position).isdigit()
    }


def _words(words: Any) -> str:
    return text(" ".join(map(str, words)) if isinstance(words, list) else str(words), 400)


def _sent(lms: LmsClient, what: str, body: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    answer = lms.http.request(
        "POST",
        _PATHS[what],
        group=_GROUP,
        json_body=body,
        token=lms.who.service_token,
        again=True,
        request_id=body["request_id"],
    )
    answered = _accepted(lms, answer)
    told = {"request_id": body["request_id"]}
    return reading(
        "a batch", lambda: {result["id"]: result | told for result in answered["results"]}
    )


def _accepted(lms: LmsClient, answer: Answer) -> Any:
    """The JSON of a good answer. A request that is refused as a whole is refused by status 400;
    any other refusal says that no batch endpoint is there now, and nothing about its items."""
    if answer.status < 300:
        return answer.json()
    if answer.status in (400, 401, 403, 422):
        error = refusal(answer)
        if isinstance(error, Refused) and (found := _invalid(answer.json_or_none())):
            raise _InvalidItems(found)
        raise error
    _forget(lms)
    raise not_the_lms(answer)


def result_of(results: Mapping[Any, dict[str, Any]], item_id: Any) -> dict[str, Any]:
    """A dictionary with one of ``STATUSES`` and an ``error``: None or, of a refusal, a dictionary
    of the texts ``code`` and ``message``, the list of texts ``suggestions`` and the dictionary of
    texts ``fields``.

    Raises BadAnswer for an item that was left out or whose result has another shape, and LmsError
    for one that failed or was not sent.
    """
    found = results.get(item_id)
    if found is None and isinstance(results, Results) and results.error is not None:
        raise results.error
    if not isinstance(found, dict) or "status" not in found:
        raise BadAnswer("The LMS left an item of a batch without a result.")
    status, error = found["status"], reading("a refusal", lambda: _reason(found.get("error")))
    if status == "failed" and error:
        raise LmsError(error["message"], code=error["code"])
    if status not in STATUSES or bool(error) != (status == "refused"):
        raise BadAnswer("The LMS's batch API answered an item in a way that is not known.")
    return {**found, "error": error}


def refused(result: Mapping[str, Any], kind: type[Refused] = Refused) -> Refused:
    """The LMS's own reason for a refused item, as ``result_of`` gives it."""
    error = kind(result["error"]["message"], code=result["error"]["code"])
    return error.of_request(result.get("request_id", ""))


def _reason(error: Any) -> dict[str, Any] | None:
    """Raises for anything but a reason, or none."""
    if error is None:
        return None
    suggestions, fields = error.get("suggestions") or [], error.get("fields") or {}
    return {
        "code": text(error.get("code"), 64) or "refused",
        "message": text(error.get("message"), 400) or "refused without a reason",
        "suggestions": [each for each in list_of(suggestions) if isinstance(each, str)],
        "fields": {text(field, 64): text(words, 400) for field, words in fields.items()},
    }


def changed_since(
    lms: LmsClient, what: str, since: datetime | None, cursor: str = ""
) -> tuple[list[dict[str, Any]], str, str]:
    """Rows changed in the LMS since a moment (None: all), the next cursor ('' at the end), and
    the moment to ask from the next time."""
    params: dict[str, Any] = {"client_id": lms.who.client_id}
    if since is not None:
        params["changed_since"] = since.isoformat()
    if cursor:
        params["cursor"] = cursor
    answer = lms.http.request(
        "GET", _PATHS[what], group=_GROUP, params=params, token=lms.who.service_token
    )
    body = _accepted(lms, answer)
    return reading("changes", lambda: _changes(body))


def _changes(body: Any) -> tuple[list[Any], str, str]:
    found, now = list_of(body["results"]), moment(body["now"])
    if len(found) > _CHANGES_A_PAGE or now is None:
        raise ValueError("more changes than were asked for, or no moment")
    if now > datetime.now(UTC) + _AHEAD:
        # Asked from then on, the LMS would tell of no change for as long.
        raise ValueError("a moment that is far from now")
    cursor = body["next"] or ""
    return found, cursor and name(cursor, _LONGEST_CURSOR, "a cursor"), now.isoformat()
