"""The log of one seed, line by line, for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from benchmarks.lms.server import Response

if TYPE_CHECKING:
    from simulation.network import Message


class Line(NamedTuple):
    """A line of the log. at: virtual time in seconds. who: the process, or "LMS"."""

    at: float
    who: str
    format_text: Callable[[], str]


@dataclass
class EventLog:
    """The lines of the log, which are formatted only when they are read. clock: returns the virtual
    time."""

    clock: Callable[[], float]
    lines: list[Line] = field(default_factory=list)

    def add(self, who: Any, text: str | Callable[[], str]) -> None:
        """Add a line. who: the process, or "LMS". text: may be a function that returns the text
        when the log is printed."""
        format_text = text if callable(text) else lambda: text
        self.lines.append(Line(self.clock(), str(who), format_text))

    def add_request(self, message: Message) -> None:
        self.add(message.process, lambda: f"→ #{message.number} {describe(message)}")

    def add_answer(self, message: Message, answer: Response | Exception) -> None:
        self.add(message.process, lambda: f"← #{message.number} {_answer(answer)}")

    def add_lms_answer(self, message: Message, answer: Response) -> None:
        self.add("LMS", lambda: f"  #{message.number} {describe(message)}: {_answer(answer)}")

    def add_lms_event(self, text: str, message: Message) -> None:
        self.add("LMS", lambda: f"  #{message.number} {text}")

    def text(self) -> str:
        width = max((len(line.who) for line in self.lines), default=0)
        return "\n".join(
            f"{line.at:10.3f} s  {line.who:<{width}}  {line.format_text()}" for line in self.lines
        )


def describe(message: Message) -> str:
    """A request in a few words: method, path, and its body or, if it has none, its query. A query
    that is long or contains a secret is left out."""
    request = message.request
    path = short(request.path)
    if request.body:
        return f"{request.method} {path} {_body(request)}"
    query = unquote(request.query)
    if not query or len(query) > 80 or "secret" in query:
        return f"{request.method} {path}"
    return f"{request.method} {path}?{short(query)}"


def _body(request: Any) -> str:
    """The body of a request in a few words, such as the learners and runs of a batch."""
    if "json" not in request.headers.get("content-type", ""):
        form = request.form()
        shown_keys = ("username", "email", "grant_type")
        return " ".join(form[name] for name in shown_keys if name in form)
    body = request.json()
    if "items" in body:
        return "; ".join(_item(item) for item in body["items"])
    if "course_details" in body:
        return _item(body | {"username": body["user"], **body["course_details"]})
    return json.dumps(body)


def _item(item: dict[str, Any]) -> str:
    """An account or enrollment in a request, in a few words."""
    state = "active" if item.get("is_active", True) else "inactive"
    if "course_id" in item:
        mode = item.get("mode") or "any mode"
        return f"{item['username']} in {short(item['course_id'])} {mode} {state}"
    return f"{item['username']} {state}"


def short(text: str) -> str:
    """``text`` with course keys as ``run-0``, and URLs without their constant parts."""
    for number in range(10):
        text = text.replace(f"course-v1:BenchX+C{number:05}+2026_T1", f"run-{number}")
    for prefix in (
        "/usher/api/v1/",
        "/api/enrollment/v1/",
        "/api/user/v1/",
        "/user_api/v1/account/",
    ):
        text = text.replace(prefix, "…/")
    return text


def _answer(answer: Response | Exception) -> str:
    """The error, or the answer's status and the beginning of its body or redirect; no tokens."""
    if isinstance(answer, Exception):
        return f"{type(answer).__name__}: {answer}"
    location = dict(answer.headers).get("Location", "")
    body = location or answer.body.decode(errors="replace")
    if '"access_token"' in body:
        body = "tokens"
    return f"{answer.status} {short(body)[:150]}"
