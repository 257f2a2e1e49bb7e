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
from usher.sidecar.given_up import given_up
from usher.sidecar.learners import Learner
from usher.sidecar.learners import learners as pages_of
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import DONE, FAILED, LEFT, REFUSED
from usher.sidecar.watched import Refused, Watched, now

_PAGES = (("/", "Overview"), ("/refusals/", "Refusals"), ("/learners/", "Learners"))
#: The most learners whom the application gave up that are listed.
_GIVEN_UP = 200
_FOUND = 20
#: The most refusals that are listed for one reason.
_NAMED = 50


def overview(watched: Watched) -> str:
    state, text, then = _verdict(watched)
    kinds = sorted({kind for kind, _ in watched.numbers})
    head = ("Records", "Done", "Refused", "Failed", "Changed meanwhile")
    rows = [
        (kind.capitalize(), *(watched.numbers[kind, r] for r in (DONE, REFUSED, FAILED, LEFT)))
        for kind in kinds
    ]
    table = _table(head, rows) if rows else "<p>Nothing was due yet.</p>"
    body = _verdict_box(state, text, then)
    body += _panel(f"Since {watched.started:%H:%M} UTC", table) + _lms(watched) + _as_of()
    return _page("/", "Overview", body, watched)


def _verdict(watched: Watched) -> tuple[str, str, str]:
    if watched.trouble is not None:
        reason, again = watched.trouble
        left = max(0, round((again - now()).total_seconds()))
        return "bad", "The sidecar can't work now.", f"{reason} Tried again in {left} s."
    if watched.is_late:
        return "bad", "No pass has ended for five minutes.", "Look at the terminal."
    if number := len(watched.refused()):
        noun = "record is" if number == 1 else "records are"
        return "warning", f"{number} {noun} refused.", "Each is tried again after an hour."
    if watched.looked is None:
        return "waiting", "The first pass is in progress.", ""
    return "ok", "What the application asks for is in the LMS.", "As far as its tables tell."


def _lms(watched: Watched) -> str:
    looked = f"<div><dt>Last pass</dt><dd>{_ago(watched.looked)}</dd></div>"
    if (sides := watched.opened) is None:
        return _panel("The application and the LMS", f"<dl>{looked}</dl>")
    health = sides.lms.http.health()
    times = sorted(health.milliseconds)
    latency = f"{times[len(times) // 2]:.0f} ms" if times else "not known"
    failure = escape(health.failure) if (health.failed_at or 0) > (health.answered_at or 0) else ""
    answer = _moment(health.answered_at)
    rows = (
        ("Application", escape(sides.adapter.title)),
        ("LMS", escape(sides.lms.http.base_url)),
        ("Last answer", _ago(answer)),
        ("Last failure", failure or "none since"),
        ("Latency", latency),
        ("Circuits", escape(", ".join(health.open_circuits)) or "all closed"),
        ("Throttled", escape(", ".join(health.throttled)) or "no"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return _panel("The application and the LMS", f"<dl>{items}{looked}</dl>")


def refusals(watched: Watched) -> str:
    groups: dict[tuple[str, str], list[Refused]] = {}
    for one in watched.refused():
        groups.setdefault((one.kind, one.reason), []).append(one)
    body = "<h1>Refusals</h1>"
    body += "".join(_group(*group, found) for group, found in groups.items())
    if not groups:
        body += '<div class="empty"><p>Nothing was refused in the last two hours.</p></div>'
    body += _panel("Given up by the application itself", _given_up(watched)) + _as_of()
    return _page("/refusals/", "Refusals", body, watched)


def _group(kind: str, reason: str, found: list[Refused]) -> str:
    lines = [_line(one.what, f"last {_ago(one.last)}") for one in found[:_NAMED]]
    if len(found) > _NAMED:
        lines.append(f"<li>and {len(found) - _NAMED} more</li>")
    count = f"<p>{len(found)} {escape(kind)}{'s' if len(found) > 1 else ''}, the first "
    since = f"{_ago(min(one.first for one in found))}</p>"
    return _panel(reason, f'{count}{since}<ul class="plain-list">{"".join(lines)}</ul>', "bad")


def _line(what: str, more: str) -> str:
    """Renders one line, with a link to the learner's page."""
    who, _, where = what.partition(" in ")
    link = f'<a href="/learners/?{escape(urlencode({"q": who}))}">{escape(who)}</a>'
    named = link if "@" in who else escape(who)
    where = f" in {escape(where)}" if where else ""
    return f'<li>{named}{where} <span class="muted small">{escape(more)}</span></li>'


def _given_up(watched: Watched) -> str:
    if (sides := watched.opened) is None:
        return _away(watched)
    try:
        found = list(islice(given_up(sides.agent, sides.adapter), _GIVEN_UP + 1))
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not found:
        return "<p>Nobody.</p>"
    lines = "".join(_line(one.what, one.reason) for one in found[:_GIVEN_UP])
    more = f"<p>The first {_GIVEN_UP}; usher drift --given-up lists all.</p>"
    return f'<ul class="plain-list">{lines}</ul>' + (more if len(found) > _GIVEN_UP else "")


def learners(watched: Watched, text: str) -> str:
    text = text.replace("\x00", "").strip()
    body = (
        '<header class="page-head"><div><h1>Find a learner</h1></div></header>'
        '<form class="search" role="search" method="get" action="/learners/">'
        '<label for="q">Whole e-mail address or username</label>'
        f'<div><input id="q" name="q" type="search" value="{escape(text)}" maxlength="255" '
        'autocomplete="off" spellcheck="false"><button>Find</button></div></form>'
    )
    if text:
        body += _found(watched, text)
    return _page("/learners/", text or "Learners", body, watched)


def _found(watched: Watched, text: str) -> str:
    if (sides := watched.opened) is None:
        return _away(watched)
    try:
        only = sides.adapter.users_taken.also(_named(text))
        found = next(pages_of(sides.agent, sides.adapter, size=_FOUND, only=only), [])
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not found:
        return (
            '<div class="empty"><p>The application has nobody of that name whom it would send to '
            "the LMS.</p><p>It leaves out inactive users and those of the last minutes.</p></div>"
        )
    try:
        differences = differences_of(sides, found, ("account", "enrollment"))
    except LmsError as error:
        problem = _notice(f"The LMS could not be asked: {error.message}")
        return problem + "".join(_learner(watched, one, []) for one in found)
    return "".join(
        _learner(watched, one, [d for d in differences if _is_about(d, one)]) for one in found
    ) + _asked(sides)


def _named(text: str) -> list[Mapping[str, Any]]:
    """Returns the condition that finds a user by username or e-mail address, with indexed
    columns."""
    return [{"email": text}, {"email": text.lower()}, {"username": text}]


def _is_about(difference: Difference, learner: Learner) -> bool:
    return _who(difference.what) == learner.email


def _who(what: str) -> str:
    """Returns the learner of ``ada@example.org in course-v1:…``."""
    return what.partition(" in ")[0]


def _learner(watched: Watched, one: Learner, differences: list[Difference]) -> str:
    refused = [each for each in watched.refused() if _who(each.what) == one.email]
    said = [f"{each.kind.capitalize()}: {each.reason}" for each in refused]
    if one.given_up:
        said.append(f"Given up by the application: {one.reason or 'no reason was kept'}")
    if said:
        verdict = _verdict_box("bad", said[0], " ".join(said[1:]), small=True)
    elif differences:
        first = differences[0]
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        then = "The sidecar, or the application itself, will do it." if first.waiting else ""
        verdict = _verdict_box("warning", f"{first.difference}{more}", then, small=True)
    else:
        verdict = _verdict_box("ok", "Nothing differs in the LMS.", "", small=True)
    facts = (
        ("Name", one.name),
        ("E-mail", one.email),
        ("LMS username", one.username or "none yet"),
        ("LMS account", "recorded as made" if one.made else "not recorded as made"),
        ("Token", "one is stored" if one.token else "none"),
    )
    items = "".join(f"<div><dt>{n}</dt><dd>{escape(v)}</dd></div>" for n, v in facts)
    rows = [
        (
            row.course,
            (f"enrolled as {row.mode}" if row.mode else "enrolled")
            if row.wanted
            else (row.change_status or "not enrolled"),
            "yes" if row.enrolled else "no",
            row.attempts,
        )
        for row in one.enrollments
    ]
    head = ("Course run", "Wanted", "Recorded as enrolled", "Failed attempts")
    table = _table(head, rows) if rows else "<p>No enrollments in the application.</p>"
    there = _table(
        ("Kind", "What", "Difference", "Next"),
        [
            (d.kind, d.what, d.difference, "still to be done" if d.waiting else "")
            for d in differences
        ],
    )
    return (
        f"<h2>{escape(one.email or one.username)}</h2>{verdict}"
        + (_panel("What differs in the LMS now", there, level=3) if differences else "")
        + _panel("In the application", f"<dl>{items}</dl>{table}", level=3)
        + _panel("Repair", _how(watched, one), level=3)
    )


def _how(watched: Watched, one: Learner) -> str:
    folder = watched.opened.checkout.folder if watched.opened else None
    of_application = f" --application {shlex.quote(str(folder))}" if folder else ""
    name = escape(f"{of_application} --user {shlex.quote(one.email or one.username)}")
    return (
        "<p>The sidecar sends what is due by itself. Once the cause of a refusal is gone, this "
        "sends it at once:</p>"
        f'<code class="fix">usher reconcile{name}</code>'
        '<p class="small muted">Add --manage or --edition if this sidecar was started with it.</p>'
    )


def _as_of() -> str:
    return (
        f'<p class="small muted">As of {now():%H:%M:%S} UTC. Reload the page for newer numbers.</p>'
    )


def _asked(sides: Opened) -> str:
    return (
        f'<p class="small muted">{escape(sides.adapter.title)} and the LMS were asked at '
        f"{now():%H:%M:%S} UTC; nothing was changed.</p>"
    )


def message(text: str) -> str:
    return _frame("Usher", f'<h1>Usher</h1><p class="notice">{escape(text)}</p>', "")


# Parts


def _page(path: str, title: str, body: str, watched: Watched) -> str:
    current = ' aria-current="page"'
    links = "".join(
        f'<a href="{each}"{current if each == path else ""}>{name}</a>' for each, name in _PAGES
    )
    name = watched.opened.adapter.title if watched.opened else "Usher"
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
    """Renders a section. level: of its heading."""
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


def _away(watched: Watched) -> str:
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
