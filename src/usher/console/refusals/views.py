from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from usher.application.adapter import REFUSED_NEXT
from usher.console import access, words
from usher.console.access import action, audit, page
from usher.console.pages import add_message, render_page
from usher.console.refusals import services, table
from usher.engine.kinds import Kind
from usher.engine.registry import all_kinds, kind_names

#: The lengths of the columns.
_MAX_NOTE_LENGTH = 500
_MAX_CODE_LENGTH = 64
#: The most digits of which each number fits the column of a key.
_MAX_ID_DIGITS = 18
#: The most records that are read from one form; a page shows fewer.
_MAX_CHOSEN = 500


@page()
def groups(request: HttpRequest) -> HttpResponse:
    """``/staff/refusals/``"""
    all_groups = services.groups()
    context = {
        "groups": all_groups,
        "next": REFUSED_NEXT,
        "count": sum(group.count for group in all_groups),
        "ignored": [(row, words.plural(row.kind)) for row in services.last_ignore_decisions()],
    }
    return render_page(request, "refusals", context)


@page()
def group(request: HttpRequest) -> HttpResponse:
    """``/staff/refusals/group/?kind=…&code=…``, newest first; ``&before=…`` for the next page."""
    kind, code = _kind_and_code(request.GET)
    before = request.GET.get("before", "")
    # One record more than a page shows, to find out whether there is a next page.
    refusals = services.newest_refusals(kind, code, limit=services.PAGE_SIZE + 1, before=before)
    rows = refusals[: services.PAGE_SIZE]
    has_next_page = len(refusals) > services.PAGE_SIZE
    context = {
        "kind": kind.name,
        "kind_title": words.plural(kind.name),
        "code": code,
        "title": words.reason(code),
        "advice": words.advice(code, kind.name),
        "message_label": words.message_label(code, kind.name),
        "rows": rows,
        "count": services.not_ignored(kind).filter(error_code=code).count(),
        "before": rows[-1].position if has_next_page else "",
        "is_first": not before,
    }
    return render_page(request, "refusals/group", context)


@action(access.RETRY)
def retry(request: HttpRequest) -> HttpResponse:
    """Retries the selected records, or the whole group."""
    kind, code = _kind_and_code(request.POST)
    ids = _selected_ids(request)
    if ids == []:  # None means the whole group
        text = "Nothing was chosen: select the records to retry first."
        add_message(request, text, is_success=False)
        return redirect(_group_url(kind, code))
    count, are_left = services.retry(kind, code, ids=ids)
    audit(request, "retry", f"{kind.name} {code}", records=count, chosen=_ids_text(ids))
    text = "Nothing was retried."
    if count:
        text = f"{count:,} retried: a worker will send them to the LMS."
    text += _unchanged_text(ids, count)
    if are_left:
        text += " More records are left: choose Retry all once more."
    add_message(request, text, is_success=count > 0)
    return redirect("usher_console:refusals" if ids is None else _group_url(kind, code))


@action(access.IGNORE)
def ignore(request: HttpRequest) -> HttpResponse:
    """Ignores the selected records, or the whole group. A note is required."""
    kind, code = _kind_and_code(request.POST)
    ids = _selected_ids(request)
    note = request.POST.get("note", "").replace("\x00", "").strip()[:_MAX_NOTE_LENGTH]
    if ids == [] or not note:
        problem = "Select the records first." if note else "Write a note with the reason."
        add_message(request, f"Nothing was ignored. {problem}", is_success=False)
        return redirect(_group_url(kind, code))
    count = services.ignore(kind, code, note=note, by=request.user, ids=ids)
    audit(request, "ignore", f"{kind.name} {code}", records=count, note=note, chosen=_ids_text(ids))
    message = "A record is shown again if it is refused again." if count else "Nothing changed."
    add_message(
        request, f"{count:,} ignored. {message}{_unchanged_text(ids, count)}", is_success=count > 0
    )
    return redirect("usher_console:refusals" if ids is None else _group_url(kind, code))


@action(access.IGNORE)
def unignore(request: HttpRequest) -> HttpResponse:
    pk = _parse_id(request.POST.get("ignored", ""))
    row = services.unignore(pk) if pk is not None else None
    if row is not None:
        audit(request, "unignore", f"{row.kind} {row.code}", record=row.row_id, note=row.note)
        add_message(request, "No longer ignored.")
    return redirect("usher_console:refusals")


@action(access.EXPORT)
def export(request: HttpRequest) -> HttpResponse:
    """A group as CSV. A POST request, because the export contains learners' names and is
    audited."""
    kind, code = _kind_and_code(request.POST)
    audit(request, "export", f"{kind.name} {code}")
    lines = table.lines(kind.name, code, services.export_rows(kind, code))
    content: Any = table.for_asgi(lines) if isinstance(request, ASGIRequest) else lines
    answer: Any = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="refused-{kind.name}.csv"'
    return answer  # type: ignore[no-any-return]


def _kind_and_code(data: Any) -> tuple[Kind, str]:
    """The kind and the error code of a group, from the parameters of a request. Raises Http404."""
    name, code = data.get("kind", ""), data.get("code", "")
    if name not in kind_names() or len(code) > _MAX_CODE_LENGTH or "\x00" in code:
        raise Http404("no such group of refusals")
    return all_kinds()[name], code


def _selected_ids(request: HttpRequest) -> list[int] | None:
    """Ids of the selected records; None for the whole group."""
    if request.POST.get("all"):
        return None
    texts = dict.fromkeys(request.POST.getlist("row")[:_MAX_CHOSEN])
    return [pk for text in texts if (pk := _parse_id(text)) is not None]


def _parse_id(text: str) -> int | None:
    is_id = text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS
    return int(text) if is_id else None


def _unchanged_text(ids: list[int] | None, count: int) -> str:
    """A sentence with the number of selected records that are no longer refused; '' for none. ids:
    None for the whole group, of which all are still refused."""
    count_gone = 0 if ids is None else len(ids) - count
    return f" {count_gone:,} not changed: no longer refused for this reason." if count_gone else ""


def _ids_text(ids: list[int] | None) -> str:
    """Returns the chosen ids as text for the audit log."""
    return "all" if ids is None else ",".join(map(str, ids))


def _group_url(kind: Kind, code: str) -> str:
    query = urlencode({"kind": kind.name, "code": code})
    return f"{reverse('usher_console:refusal-group')}?{query}"
