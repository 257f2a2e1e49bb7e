"""The batch API: endpoints of ``usher.lms``, hundreds of rows a request, where they answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from usher.client.client import LmsClient, not_the_lms, refusal
from usher.client.errors import BadAnswer, LmsError
from usher.client.http import Answer
from usher.client.payloads import reading
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

_lock = threading.Lock()
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
        answer = lms.http.request(
            "GET", LmsPath.USHER_API, group=_GROUP, token=lms.who.service_token
        )
        body = answer.json_or_none() if answer.status == 200 else None
        found = _read(body)
        if not found:
            lms.confirm()
    except LmsError:
        return None
    with _lock:
        _known[lms] = (time.monotonic(), found)
    return found


def _forget(lms: LmsClient) -> None:
    """What the LMS offers is asked anew, after a batch endpoint didn't answer as one."""
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


def send(
    lms: LmsClient, what: str, items: Sequence[Mapping[str, Any]], **more: Any
) -> dict[Any, dict[str, Any]]:
    """The result of each item, by its ``id``. Raises LmsError when the request itself failed.

    Sending the same items twice does no harm: the endpoints are idempotent.
    """
    answer = lms.http.request(
        "POST",
        _PATHS[what],
        group=_GROUP,
        json_body={"items": list(items), **more},
        token=lms.who.service_token,
        again=True,
    )
    body = _accepted(lms, answer)
    return reading("a batch", lambda: {result["id"]: result for result in body["results"]})


def _accepted(lms: LmsClient, answer: Answer) -> Any:
    """The JSON of a good answer. A request that is refused as a whole is refused by status 400;
    any other refusal says that no batch endpoint is there now, and nothing about its items."""
    if answer.status < 300:
        return answer.json()
    if answer.status in (400, 401, 403, 422):
        raise refusal(answer)
    _forget(lms)
    raise not_the_lms(answer)


def result_of(results: Mapping[Any, dict[str, Any]], item_id: Any) -> dict[str, Any]:
    """Raises BadAnswer for an item that was left out."""
    found = results.get(item_id)
    if not isinstance(found, dict) or "status" not in found:
        raise BadAnswer("The LMS left an item of a batch without a result.")
    return found


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
    return reading(
        "changes",
        lambda: (list(body["results"]), str(body["next"] or ""), str(body["now"])),
    )
