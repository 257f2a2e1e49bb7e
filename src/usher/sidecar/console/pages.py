"""Renders the pages as HTML. A learner's page reads the application and the LMS."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from usher.client.errors import LmsError
from usher.sidecar.drift import Difference, differences_of
from usher.sidecar.errors import SidecarError
from usher.sidecar.given_up import find_given_up
from usher.sidecar.learners import Learner
from usher.sidecar.learners import learners as pages_of_learners
from usher.sidecar.session import Session
from usher.sidecar.summary import DONE, FAILED, INVALID, REFUSED, SKIPPED
from usher.sidecar.watch_state import Refused, WatchState, now

_PAGES = (("/", "Overview"), ("/refusals/", "Refusals"), ("/learners/", "Learners"))
#: The most learners that are listed as given up by the application.
_MAX_GIVEN_UP = 200
_MAX_FOUND = 20
#: The most refusals that are listed for one reason.
_MAX_NAMED = 50


def overview(watched: WatchState) -> str:
    state, text, then = _verdict(watched)
    kinds = sorted({kind for kind, _ in watched.numbers})
    head = ("Records", "Done", "Refused", "Failed", "Skipped", "Invalid")
    results = (DONE, REFUSED, FAILED, SKIPPED, INVALID)
    rows = [
        (kind.capitalize(), *(watched.numbers[kind, result] for result in results))
        for kind in kinds
    ]
    table = _table(head, rows) if rows else "<p>Nothing was due yet.</p>"
    body = _verdict_box(state, text, then)
    body += _panel(f"Since {watched.started:%H:%M} UTC", table) + _lms(watched) + _as_of()
    return _page("/", "Overview", body, watched)


def _verdict(watched: WatchState) -> tuple[str, str, str]:
    if watched.trouble is not None:
        reason, retry_at = watched.trouble
        seconds = max(0, round((retry_at - now()).total_seconds()))
        return "bad", "The sidecar can't work now.", f"{reason} Tried again in {seconds} s."
    if watched.is_late:
        return "bad", "No pass has ended for five minutes.", "Look at the terminal."
    if number := len(watched.refused()):
        noun = "record is" if number == 1 else "records are"
        return "warning", f"{number} {noun} refused.", "Each is tried again after an hour."
    if watched.last_pass is None:
        return "waiting", "The first pass is in progress.", ""
    return "ok", "The LMS has the desired state.", "According to the application's tables."


def _lms(watched: WatchState) -> str:
    last_pass = f"<div><dt>Last pass</dt><dd>{_ago(watched.last_pass)}</dd></div>"
    if (session := watched.session) is None:
        return _panel("The application and the LMS", f"<dl>{last_pass}</dl>")
    health = session.lms.http.health()
    times = sorted(health.milliseconds)
    latency = f"{times[len(times) // 2]:.0f} ms" if times else "not known"
    failure = escape(health.failure) if (health.failed_at or 0) > (health.answered_at or 0) else ""
    answer = _moment(health.answered_at)
    rows = (
        ("Application", escape(session.adapter.title)),
        ("LMS", escape(session.lms.http.base_url)),
        ("Last answer", _ago(answer)),
        ("Last failure", failure or "none since"),
        ("Latency", latency),
        ("Circuits", escape(", ".join(health.open_circuits)) or "all closed"),
        ("Throttled", escape(", ".join(health.throttled)) or "no"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return _panel("The application and the LMS", f"<dl>{items}{last_pass}</dl>")


def refusals(watched: WatchState) -> str:
    groups: dict[tuple[str, str], list[Refused]] = {}
    for refusal in watched.refused():
        groups.setdefault((refusal.kind, refusal.reason), []).append(refusal)
    body = "<h1>Refusals</h1>"
    body += "".join(_group(*group, rows) for group, rows in groups.items())
    if not groups:
        body += '<div class="empty"><p>Nothing was refused in the last two hours.</p></div>'
    body += _panel("Given up by the application itself", _given_up(watched)) + _as_of()
    return _page("/refusals/", "Refusals", body, watched)


def _group(kind: str, reason: str, rows: list[Refused]) -> str:
    lines = [_line(row.what, f"last {_ago(row.last)}") for row in rows[:_MAX_NAMED]]
    if len(rows) > _MAX_NAMED:
        lines.append(f"<li>and {len(rows) - _MAX_NAMED} more</li>")
    count = f"<p>{len(rows)} {escape(kind)}{'s' if len(rows) > 1 else ''}, the first "
    since = f"{_ago(min(row.first for row in rows))}</p>"
    return _panel(reason, f'{count}{since}<ul class="plain-list">{"".join(lines)}</ul>', "bad")


def _line(subject: str, detail: str) -> str:
    """Renders one line, with a link to the learner's page. subject: an e-mail address, or one
    followed by " in " and a course key."""
    who, _, where = subject.partition(" in ")
    link = f'<a href="/learners/?{escape(urlencode({"q": who}))}">{escape(who)}</a>'
    name = link if "@" in who else escape(who)
    where = f" in {escape(where)}" if where else ""
    return f'<li>{name}{where} <span class="muted small">{escape(detail)}</span></li>'


def _given_up(watched: WatchState) -> str:
    if (session := watched.session) is None:
        return _application_unavailable(watched)
    try:
        gave_up = list(islice(find_given_up(session.agent, session.adapter), _MAX_GIVEN_UP + 1))
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not gave_up:
        return "<p>Nobody.</p>"
    lines = "".join(_line(learner.what, learner.reason) for learner in gave_up[:_MAX_GIVEN_UP])
    more = f"<p>The first {_MAX_GIVEN_UP}; usher drift --given-up lists all.</p>"
    return f'<ul class="plain-list">{lines}</ul>' + (more if len(gave_up) > _MAX_GIVEN_UP else "")


def learners(watched: WatchState, text: str) -> str:
    text = text.replace("\x00", "").strip()
    body = (
        '<header class="page-head"><div><h1>Find a learner</h1></div></header>'
        '<form class="search" role="search" method="get" action="/learners/">'
        '<label for="q">Whole e-mail address or username</label>'
        f'<div><input id="q" name="q" type="search" value="{escape(text)}" maxlength="255" '
        'autocomplete="off" spellcheck="false"><button>Find</button></div></form>'
    )
    if text:
        body += _search_result(watched, text)
    return _page("/learners/", text or "Learners", body, watched)


def _search_result(watched: WatchState, text: str) -> str:
    if (session := watched.session) is None:
        return _application_unavailable(watched)
    try:
        selection = session.adapter.eligible_users.also(_condition_for(text))
        page = next(
            pages_of_learners(session.agent, session.adapter, size=_MAX_FOUND, selection=selection),
            [],
        )
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not page:
        return (
            '<div class="empty"><p>The application has no user of that name whom it would send to '
            "the LMS.</p><p>It leaves out inactive users and those of the last minutes.</p></div>"
        )
    try:
        differences = differences_of(session, page, ("account", "enrollment"))
    except LmsError as error:
        problem = _notice(f"The LMS could not be asked: {error.message}")
        return problem + "".join(_learner(watched, learner, []) for learner in page)
    return "".join(
        _learner(watched, learner, [d for d in differences if _is_about(d, learner)])
        for learner in page
    ) + _time_of_requests(session)


def _condition_for(text: str) -> list[Mapping[str, Any]]:
    """Returns the condition that finds a user by username or e-mail address, with indexed
    columns."""
    return [{"email": text}, {"email": text.lower()}, {"username": text}]


def _is_about(difference: Difference, learner: Learner) -> bool:
    return _who(difference.what) == learner.email


def _who(what: str) -> str:
    """Returns the e-mail address, which may be followed by " in " and a course key."""
    return what.partition(" in ")[0]


def _learner(watched: WatchState, learner: Learner, differences: list[Difference]) -> str:
    refusals = [refusal for refusal in watched.refused() if _who(refusal.what) == learner.email]
    sentences = [f"{refusal.kind.capitalize()}: {refusal.reason}" for refusal in refusals]
    if learner.given_up:
        sentences.append(f"Given up by the application: {learner.reason or 'no reason was kept'}")
    if sentences:
        verdict = _verdict_box("bad", sentences[0], " ".join(sentences[1:]), small=True)
    elif differences:
        first = differences[0]
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        then = "The sidecar, or the application itself, will do it." if first.waiting else ""
        verdict = _verdict_box("warning", f"{first.difference}{more}", then, small=True)
    else:
        verdict = _verdict_box("ok", "Nothing differs in the LMS.", "", small=True)
    facts = (
        ("Name", learner.name),
        ("E-mail", learner.email),
        ("LMS username", learner.username or "none yet"),
        (
            "LMS account",
            "recorded as created" if learner.has_account else "not recorded as created",
        ),
        ("Token", "one is stored" if learner.token else "none"),
    )
    items = "".join(f"<div><dt>{n}</dt><dd>{escape(v)}</dd></div>" for n, v in facts)
    rows = [
        (
            row.course,
            (f"enrolled as {row.mode}" if row.mode else "enrolled")
            if row.is_active
            else (row.change_status or "not enrolled"),
            "yes" if row.enrolled else "no",
            row.attempts,
        )
        for row in learner.enrollments
    ]
    head = ("Course run", "Wanted", "Recorded as enrolled", "Failed attempts")
    table = _table(head, rows) if rows else "<p>No enrollments in the application.</p>"
    differences_table = _table(
        ("Kind", "What", "Difference", "Next"),
        [
            (d.kind, d.what, d.difference, "still to be done" if d.waiting else "")
            for d in differences
        ],
    )
    return (
        f"<h2>{escape(learner.email or learner.username)}</h2>{verdict}"
        + (_panel("What differs in the LMS now", differences_table, level=3) if differences else "")
        + _panel("In the application", f"<dl>{items}</dl>{table}", level=3)
        + _panel("Repair", _how(watched, learner), level=3)
    )


def _how(watched: WatchState, learner: Learner) -> str:
    folder = watched.session.checkout.folder if watched.session else None
    of_application = f" --application {shlex.quote(str(folder))}" if folder else ""
    name = escape(f"{of_application} --user {shlex.quote(learner.email or learner.username)}")
    return (
        "<p>The sidecar sends what is due by itself. Once the cause of a refusal is gone, this "
        "sends it immediately:</p>"
        f'<code class="fix">usher reconcile{name}</code>'
        '<p class="small muted">Add --manage or --edition if this sidecar was started with it.</p>'
    )


def _as_of() -> str:
    return (
        f'<p class="small muted">As of {now():%H:%M:%S} UTC. Reload the page for newer numbers.</p>'
    )


def _time_of_requests(session: Session) -> str:
    return (
        f'<p class="small muted">{escape(session.adapter.title)} and the LMS were asked at '
        f"{now():%H:%M:%S} UTC; nothing was changed.</p>"
    )


def message(text: str) -> str:
    return _frame("Usher", f'<h1>Usher</h1><p class="notice">{escape(text)}</p>', "")


# Parts


def _page(path: str, title: str, body: str, watched: WatchState) -> str:
    current = ' aria-current="page"'
    links = "".join(
        f'<a href="{page}"{current if page == path else ""}>{name}</a>' for page, name in _PAGES
    )
    name = watched.session.adapter.title if watched.session else "Usher"
    brand = (
        f'<a class="brand" href="/"><span>{escape(name)} <small>Open edX sidecar</small></span></a>'
    )
    top = (
        f'<header class="top"><div class="wide">{brand}'
        f'<nav aria-label="Console">{links}</nav></div></header>'
    )
    return _frame(title, body, top)


def _frame(title: str, body: str, top: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
        f"<title>{escape(title)} · Usher sidecar</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/console.css"></head><body>'
        f'<a class="skip" href="#main">Skip to content</a>{top}'
        f'<main id="main" tabindex="-1" class="wide">{body}</main></body></html>'
    )


_MARKS = {"ok": "✓", "waiting": "…", "warning": "!", "bad": "✗"}


def _verdict_box(state: str, text: str, then: str, *, small: bool = False) -> str:
    tag, size = ("h3", " small") if small else ("h1", "")
    detail = f"<p>{escape(then)}</p>" if then else ""
    return (
        f'<section class="verdict{size} {state}" aria-label="In one sentence">'
        f'<span class="mark" aria-hidden="true">{_MARKS[state]}</span>'
        f"<{tag}>{escape(text)}</{tag}>{detail}</section>"
    )


def _panel(title: str, body: str, state: str = "", *, level: int = 2) -> str:
    """Renders a section. level: 2 for a heading ``h2``."""
    heading = f"<h{level}>{escape(title)}</h{level}>"
    return f'<section class="panel {state}">{heading}{body}</section>'


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    top = "".join(f'<th scope="col" role="columnheader">{escape(name)}</th>' for name in names)
    lines = "".join(
        '<tr role="row">'
        + "".join(
            f'<th scope="row" role="rowheader">{escape(str(value))}</th>'
            if number == 0
            else f'<td role="cell" data-label="{escape(name)}">{escape(str(value))}</td>'
            for number, (name, value) in enumerate(zip(names, row, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    return (
        '<table class="stack" role="table"><thead role="rowgroup">'
        f'<tr role="row">{top}</tr></thead>'
        f'<tbody role="rowgroup">{lines}</tbody></table>'
    )


def _notice(text: str) -> str:
    return f'<p class="notice bad">{escape(text)}</p>'


def _application_unavailable(watched: WatchState) -> str:
    why = watched.trouble[0] if watched.trouble else "The application is being opened."
    return _notice(f"The application can't be asked now: {why}")


def _moment(epoch: float | None) -> datetime | None:
    return datetime.fromtimestamp(epoch, tz=now().tzinfo) if epoch else None


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = max(0, round((now() - moment).total_seconds()))
    if seconds < 120:
        return f"{seconds} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"
