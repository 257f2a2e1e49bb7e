"""Renders the pages as HTML. A learner's page reads the application and the LMS."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from usher.client.errors import LmsError
from usher.sidecar.drift import Difference, differences_of
from usher.sidecar.errors import SidecarError
from usher.sidecar.given_up import find_given_up
from usher.sidecar.learners import Learner, read_learners
from usher.sidecar.session import Session
from usher.sidecar.summary import DONE, FAILED, INVALID, REFUSED, SKIPPED
from usher.sidecar.watch_state import RefusedRow, WatchState, now

_PAGES = (("/", "Overview"), ("/refusals/", "Refusals"), ("/learners/", "Learners"))
#: The most learners that are listed as given up by the application.
_MAX_GIVEN_UP = 200
#: The most learners that a search shows.
_MAX_FOUND = 20
#: The most refusals that are listed for one reason.
_MAX_LINES_A_REASON = 50


def overview(state: WatchState) -> str:
    """Renders the first page: the verdict, the counts since the start, and the connection."""
    body = (
        _verdict(state)
        + _panel(f"Since {state.started:%H:%M} UTC", _counts_table(state))
        + _connection_panel(state)
        + _time_of_page()
    )
    return _page("/", "Overview", body, state)


def _counts_table(state: WatchState) -> str:
    """Renders the number of rows by kind and result."""
    if not state.numbers:
        return "<p>Nothing was due yet.</p>"
    kinds = sorted({kind for kind, _ in state.numbers})
    results = (DONE, REFUSED, FAILED, SKIPPED, INVALID)
    rows = []
    for kind in kinds:
        numbers = [state.numbers[kind, result] for result in results]
        rows.append([kind.capitalize(), *numbers])
    return _table(("Records", "Done", "Refused", "Failed", "Skipped", "Invalid"), rows)


def _verdict(state: WatchState) -> str:
    """Renders the state of the sidecar in one sentence."""
    if state.trouble is not None:
        seconds = max(0, round((state.trouble.retry_at - now()).total_seconds()))
        detail = f"{state.trouble.reason} Tried again in {seconds} s."
        return _verdict_box("bad", "The sidecar can't work now.", detail)
    if state.is_late:
        detail = "The terminal of the sidecar shows the reason."
        return _verdict_box("bad", "No pass has succeeded for five minutes.", detail)
    number = len(state.refused())
    if number:
        sentence = f"{number} {'record is' if number == 1 else 'records are'} refused."
        return _verdict_box("warning", sentence, "Each is tried again after an hour.")
    if state.last_pass is None:
        return _verdict_box("waiting", "The first pass is in progress.", "")
    detail = "According to the application's tables."
    return _verdict_box("ok", "The LMS has the desired state.", detail)


def _connection_panel(state: WatchState) -> str:
    """Renders the addresses of the application and the LMS, and how the LMS answers."""
    facts = []
    if state.session is not None:
        http = state.session.lms.http
        health = http.health()
        latency = "not known"
        if health.milliseconds:
            latency = f"{statistics.median_high(health.milliseconds):.0f} ms"
        # A failure is shown only until the next answer.
        failed_last = (health.failed_at or 0) > (health.answered_at or 0)
        facts = [
            ("Application", state.session.adapter.title),
            ("LMS", http.base_url),
            ("Last answer", _ago(_moment(health.answered_at))),
            ("Last failure", (health.failure if failed_last else "") or "none since"),
            ("Latency", latency),
            ("Circuits", ", ".join(health.open_circuits) or "all closed"),
            ("Throttled", ", ".join(health.throttled) or "no"),
        ]
    facts.append(("Last pass", _ago(state.last_pass)))
    return _panel("The application and the LMS", _description_list(facts))


def refusals(state: WatchState) -> str:
    """Renders the page of refused and failed rows, by reason, and of those that the application
    gave up."""
    rows_by_reason: dict[tuple[str, str], list[RefusedRow]] = {}
    for row in state.refused():
        rows_by_reason.setdefault((row.kind, row.reason), []).append(row)
    body = "<h1>Refusals</h1>"
    for (kind, reason), rows in rows_by_reason.items():
        body += _refusal_panel(kind, reason, rows)
    if not rows_by_reason:
        body += '<div class="empty"><p>Nothing was refused in the last two hours.</p></div>'
    body += _panel("Given up by the application itself", _given_up_list(state)) + _time_of_page()
    return _page("/refusals/", "Refusals", body, state)


def _refusal_panel(kind: str, reason: str, rows: list[RefusedRow]) -> str:
    """Renders the rows of one kind that were refused, or failed, for the same reason."""
    lines = [_list_line(row.what, f"last {_ago(row.last)}") for row in rows[:_MAX_LINES_A_REASON]]
    if len(rows) > _MAX_LINES_A_REASON:
        lines.append(f"<li>and {len(rows) - _MAX_LINES_A_REASON} more</li>")
    count = f"{len(rows)} {escape(kind)}{'s' if len(rows) > 1 else ''}"
    first = _ago(min(row.first for row in rows))
    body = f'<p>{count}, the first {first}</p><ul class="plain-list">{"".join(lines)}</ul>'
    return _panel(reason, body, tone="bad")


def _list_line(subject: str, detail: str) -> str:
    """Renders one line. subject: an e-mail address, which becomes a link to the learner's page, or
    another name of a record, such as a course key. Either may be followed by " in " and a course
    key."""
    who, _, where = subject.partition(" in ")
    link = f'<a href="/learners/?{escape(urlencode({"q": who}))}">{escape(who)}</a>'
    name = link if "@" in who else escape(who)
    where = f" in {escape(where)}" if where else ""
    return f'<li>{name}{where} <span class="muted small">{escape(detail)}</span></li>'


def _given_up_list(state: WatchState) -> str:
    """Renders the learners whom the application gave up, or why they can't be listed."""
    session = state.session
    if session is None:
        return _unavailable_notice(state)
    try:
        given_up = find_given_up(session.agent, session.adapter)
        # One more than is listed, to find out whether there are more.
        rows = list(islice(given_up, _MAX_GIVEN_UP + 1))
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not rows:
        return "<p>Nobody.</p>"
    lines = "".join(_list_line(row.what, row.reason) for row in rows[:_MAX_GIVEN_UP])
    html = f'<ul class="plain-list">{lines}</ul>'
    if len(rows) > _MAX_GIVEN_UP:
        html += f"<p>The first {_MAX_GIVEN_UP}; <code>usher drift --given-up</code> lists all.</p>"
    return html


def learners(state: WatchState, text: str) -> str:
    """Renders the search form and, for a text, the learners that it finds. text: '' for no
    search."""
    text = text.replace("\x00", "").strip()  # PostgreSQL accepts no NUL
    body = (
        '<header class="page-head"><div><h1>Find a learner</h1></div></header>'
        '<form class="search" role="search" method="get" action="/learners/">'
        '<label for="q">Whole e-mail address or username</label>'
        f'<div><input id="q" name="q" type="search" value="{escape(text)}" maxlength="255" '
        'autocomplete="off" spellcheck="false"><button>Find</button></div></form>'
    )
    if text:
        body += _search_result(state, text)
    return _page("/learners/", text or "Learners", body, state)


def _search_result(state: WatchState, text: str) -> str:
    """Renders the learners with this e-mail address or username, compared with the LMS now."""
    session = state.session
    if session is None:
        return _unavailable_notice(state)

    # Find the learners in the application.
    selection = session.adapter.eligible_users.narrowed_by(_user_condition(text))
    pages = read_learners(session.agent, session.adapter, page_size=_MAX_FOUND, selection=selection)
    try:
        learners: list[Learner] = next(pages, [])
    except SidecarError as error:
        return _notice(f"The application could not be asked: {error}")
    if not learners:
        return (
            '<div class="empty"><p>The application has no user with this e-mail address or '
            "username for whom it creates an LMS account.</p><p>It creates none for inactive "
            "users, and leaves new users out for some minutes.</p></div>"
        )

    # Compare them with the LMS.
    notice = ""
    last_line = _time_of_requests(session)
    try:
        differences = differences_of(session, learners, kinds=("account", "enrollment"))
    except LmsError as error:
        differences = []
        notice = _notice(f"The LMS could not be asked: {error.message}")
        last_line = ""
    sections = ""
    for learner in learners:
        of_learner = [difference for difference in differences if _is_about(difference, learner)]
        sections += _learner_section(state, learner, of_learner)
    return notice + sections + last_line


def _user_condition(text: str) -> list[Mapping[str, Any]]:
    """Returns the condition that finds a user by username or e-mail address, with indexed
    columns."""
    return [{"email": text}, {"email": text.lower()}, {"username": text}]


def _is_about(difference: Difference, learner: Learner) -> bool:
    return _learner_of(difference.what) == learner.shown_name


def _learner_of(what: str) -> str:
    """Returns the learner in ``what``, who may be followed by " in " and a course key."""
    return what.partition(" in ")[0]


def _learner_section(state: WatchState, learner: Learner, differences: list[Difference]) -> str:
    """Renders one learner: the verdict, the differences, the application's data, and the command
    that repairs. differences: of this learner."""
    sections = [f"<h2>{escape(learner.email or learner.username)}</h2>"]
    sections.append(_learner_verdict(state, learner, differences))
    if differences:
        rows = []
        for difference in differences:
            next_step = "will be repaired" if difference.waiting else ""
            rows.append((difference.kind, difference.what, difference.difference, next_step))
        table = _table(("Kind", "What", "Difference", "Next"), rows)
        sections.append(_panel("What differs in the LMS now", table, level=3))
    data = _learner_data(learner) + _enrollments_table(learner)
    sections.append(_panel("In the application", data, level=3))
    sections.append(_panel("Repair", _repair_section(state, learner), level=3))
    return "".join(sections)


def _learner_verdict(state: WatchState, learner: Learner, differences: list[Difference]) -> str:
    """Renders the most important statement: what was refused, failed or was given up, else what
    differs."""
    sentences = []
    for row in state.refused():
        if _learner_of(row.what) == learner.shown_name:
            sentences.append(f"{row.kind.capitalize()}: {row.reason}")
    if learner.given_up:
        reason = learner.given_up_reason or "no reason was kept"
        sentences.append(f"Given up by the application: {reason}")
    if sentences:
        return _verdict_box("bad", sentences[0], " ".join(sentences[1:]), small=True)
    if differences:
        first = differences[0]
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        next_step = "The sidecar or the application will repair it." if first.waiting else ""
        return _verdict_box("warning", f"{first.difference}{more}", next_step, small=True)
    return _verdict_box("ok", "Nothing differs in the LMS.", "", small=True)


def _learner_data(learner: Learner) -> str:
    """Renders what the application has recorded of the learner."""
    account = "recorded as created" if learner.has_account else "not recorded as created"
    return _description_list(
        [
            ("Name", learner.name),
            ("E-mail", learner.email),
            ("LMS username", learner.username or "none yet"),
            ("LMS account", account),
            ("Token", "one is stored" if learner.has_token else "none"),
        ]
    )


def _enrollments_table(learner: Learner) -> str:
    """Renders the learner's enrollments in the application."""
    if not learner.enrollments:
        return "<p>No enrollments in the application.</p>"
    rows = []
    for row in learner.enrollments:
        if not row.is_active:
            enrollment = row.change_status or "not enrolled"
        elif row.mode:
            enrollment = f"enrolled as {row.mode}"
        else:
            enrollment = "enrolled"
        rows.append((row.course, enrollment, "yes" if row.enrolled else "no", row.attempts))
    return _table(("Course run", "Enrollment", "Recorded as enrolled", "Failed attempts"), rows)


def _repair_section(state: WatchState, learner: Learner) -> str:
    folder = state.session.checkout.folder if state.session else None
    application_option = f" --application {shlex.quote(str(folder))}" if folder else ""
    user = shlex.quote(learner.email or learner.username)
    command = escape(f"usher reconcile{application_option} --user {user}")
    return (
        "<p>The sidecar sends due changes by itself. After the cause of a refusal is gone, this "
        "command retries immediately:</p>"
        f'<code class="fix">{command}</code>'
        '<p class="small muted">Add --manage or --edition if this sidecar was started with it.</p>'
    )


def _time_of_page() -> str:
    """Renders the line that says when the page was rendered."""
    return (
        f'<p class="small muted">As of {now():%H:%M:%S} UTC. Reload the page for newer numbers.</p>'
    )


def _time_of_requests(session: Session) -> str:
    """Renders the line that says when the application and the LMS were asked."""
    return (
        f'<p class="small muted">{escape(session.adapter.title)} and the LMS were asked at '
        f"{now():%H:%M:%S} UTC; nothing was changed.</p>"
    )


def message(text: str) -> str:
    """Renders a page with one sentence, without links to other pages."""
    body = f'<h1>Usher</h1><p class="notice">{escape(text)}</p>'
    return _frame("Usher", body, header="")


# Parts


def _page(path: str, title: str, body: str, state: WatchState) -> str:
    current = ' aria-current="page"'
    links = "".join(
        f'<a href="{page}"{current if page == path else ""}>{name}</a>' for page, name in _PAGES
    )
    name = state.session.adapter.title if state.session else "Usher"
    brand = (
        f'<a class="brand" href="/"><span>{escape(name)} <small>Open edX sidecar</small></span></a>'
    )
    header = (
        f'<header class="top"><div class="wide">{brand}'
        f'<nav aria-label="Console">{links}</nav></div></header>'
    )
    return _frame(title, body, header)


def _frame(title: str, body: str, header: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
        f"<title>{escape(title)} · Usher sidecar</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/console.css"></head><body>'
        f'<a class="skip" href="#main">Skip to content</a>{header}'
        f'<main id="main" tabindex="-1" class="wide">{body}</main></body></html>'
    )


#: Tone of a verdict, which is also its CSS class → the sign in front of it.
_MARKS = {"ok": "✓", "waiting": "…", "warning": "!", "bad": "✗"}


def _verdict_box(tone: str, sentence: str, detail: str, *, small: bool = False) -> str:
    """Renders the section that says how things stand. tone: a key of ``_MARKS``. small: for a part
    of a page, not for its beginning."""
    tag, size = ("h3", " small") if small else ("h1", "")
    paragraph = f"<p>{escape(detail)}</p>" if detail else ""
    return (
        f'<section class="verdict{size} {tone}" aria-label="In one sentence">'
        f'<span class="mark" aria-hidden="true">{_MARKS[tone]}</span>'
        f"<{tag}>{escape(sentence)}</{tag}>{paragraph}</section>"
    )


def _panel(title: str, body: str, tone: str = "", *, level: int = 2) -> str:
    """Renders a section. tone: '' or a key of ``_MARKS``. level: 2 for a heading ``h2``."""
    heading = f"<h{level}>{escape(title)}</h{level}>"
    return f'<section class="panel {tone}">{heading}{body}</section>'


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Renders a table whose first column is the heading of each row. The parts have ``role=``
    attributes, because on narrow screens the style sheet makes blocks of the rows, and browsers
    then drop the roles of a table. ``data-label`` is the heading that is shown there."""
    names = list(head)
    top = "".join(f'<th scope="col" role="columnheader">{escape(name)}</th>' for name in names)
    lines = ""
    for heading, *values in rows:
        lines += f'<tr role="row"><th scope="row" role="rowheader">{escape(str(heading))}</th>'
        for name, value in zip(names[1:], values, strict=True):
            lines += f'<td role="cell" data-label="{escape(name)}">{escape(str(value))}</td>'
        lines += "</tr>"
    return (
        '<table class="stack" role="table"><thead role="rowgroup">'
        f'<tr role="row">{top}</tr></thead>'
        f'<tbody role="rowgroup">{lines}</tbody></table>'
    )


def _description_list(facts: Iterable[tuple[str, str]]) -> str:
    """Renders names and their values."""
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl>{items}</dl>"


def _notice(text: str) -> str:
    return f'<p class="notice bad">{escape(text)}</p>'


def _unavailable_notice(state: WatchState) -> str:
    reason = state.trouble.reason if state.trouble else "The application is being opened."
    return _notice(f"The application can't be asked now: {reason}")


def _moment(epoch_seconds: float | None) -> datetime | None:
    """Unix seconds as a time; None if there are none."""
    return datetime.fromtimestamp(epoch_seconds, tz=UTC) if epoch_seconds else None


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = max(0, round((now() - moment).total_seconds()))
    if seconds < 120:
        return f"{seconds} s ago"
    if seconds < 7200:
        return f"{seconds // 60} min ago"
    return f"{seconds // 3600} h ago"
