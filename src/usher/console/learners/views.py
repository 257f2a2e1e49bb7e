from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from usher.application import user_model
from usher.application.accounts import waiting
from usher.client.errors import LmsError
from usher.console import access, words
from usher.console.access import action, audit, page
from usher.console.learners import comparing, finding, repairing, services
from usher.console.pages import add_message, render_page
from usher.console.refusals.services import newest_refusals_of_all
from usher.engine.notify import notify_workers
from usher.engine.registry import all_kinds
from usher.engine.summary import Summary
from usher.engine.transactions import InTransaction

_MAX_QUERY_LENGTH = 255
#: The most causes that the message about a repair names.
_MAX_CAUSES = 3


@page()
def find(request: HttpRequest) -> HttpResponse:
    """``/staff/learners/?q=…``: search; redirects to the learner if only one is found."""
    text = request.GET.get("q", "")[:_MAX_QUERY_LENGTH]
    result = finding.find(text)
    is_exact_match = len(result.users) == 1 and not result.is_prefix_search
    if is_exact_match:
        return redirect("usher_console:learner", pk=result.users[0].pk)
    recent_refusals = []
    if not text:
        recent_refusals = newest_refusals_of_all(all_kinds().values(), limit=10)
    context = {
        "text": text.replace("\x00", ""),  # a browser may send NUL, which HTML does not allow
        "result": result,
        "recent_refusals": recent_refusals,
    }
    return render_page(request, "learners", context)


@page()
def learner(request: HttpRequest, pk: str) -> HttpResponse:
    """``/staff/learners/<id>/``"""
    return _render_learner(request, _user_or_404(pk))


@action(access.COMPARE)
def compare(request: HttpRequest, pk: str) -> HttpResponse:
    """The page with the LMS's current state; changes nothing here or in the LMS."""
    user = _user_or_404(pk)
    compared = comparing.compare(user)
    audit(request, "compare", user.get_username(), differences=compared.difference_count)
    return _render_learner(request, user, compared)


def _render_learner(
    request: HttpRequest, user: Any, compared: comparing.ComparedLearner | None = None
) -> HttpResponse:
    """The learner's page. compared: the comparison with the LMS to show; None to show none."""
    learner = services.read_learner(user, compared.differing_records if compared else ())
    is_in_no_course = not any(record.kind == "enrollment" for record in learner.records)
    context = {
        "learner": learner,
        "compared": compared,
        "headline": comparing.headline(learner, compared),
        "similar": finding.find_similar(user) if is_in_no_course else [],
    }
    return render_page(request, "learners/learner", context)


@action(access.REPAIR)
def repair(request: HttpRequest, pk: str) -> HttpResponse:
    """Repairs the learner's records and shows the result. Within a transaction, leaves the records
    to a worker."""
    user = _user_or_404(pk)
    try:
        summary = repairing.repair(user)
    except InTransaction:
        notify_workers(user.pk)
        audit(request, "repair", user.get_username(), queued=True)
        add_message(
            request,
            "Queued: this project runs each request in a transaction, so a worker will repair the "
            "records.",
        )
        return redirect("usher_console:learner", pk=pk)
    counts: dict[str, Any] = {
        "changed": summary.changed,
        "unchanged": summary.unchanged,
        "failed": summary.failed,
    }
    audit(request, "repair", user.get_username(), **counts)
    problem = _problem_of_repair(user, summary)
    if problem:
        add_message(request, problem, is_success=False)
    else:
        add_message(request, _success_of_repair(summary))
    return redirect("usher_console:learner", pk=pk)


def _problem_of_repair(user: Any, summary: Summary) -> str:
    """Returns why not everything is repaired; '' if everything is, or a worker does the rest."""
    stopped_kinds = repairing.stopped_kinds(user)
    if stopped_kinds:
        return f"Stopped for all learners: {', '.join(stopped_kinds)}. The overview says why."
    if summary.failed:
        return f"Not everything was repaired. {_causes_text(summary.failures)}"
    if summary.waiting:
        return f"Not everything could be sent yet. {_causes_text(summary.waiting)}"
    if summary.by_others or summary.changed:
        return ""
    if services.read_learner(user).verdict.state != "ok":
        return "Repair now can't correct this. See below what to do."
    return ""


def _success_of_repair(summary: Summary) -> str:
    if summary.by_others:
        return (
            f"A worker had already claimed {summary.by_others} of the records. It has repaired "
            "them, unless this page says otherwise. Compare with the LMS to be sure."
        )
    if summary.changed:
        return f"Repaired: {summary.line()}."
    return "There was nothing to repair."


def _causes_text(failures: Sequence[Any]) -> str:
    """Returns why records failed or wait. Leaves out records that only wait for the account, unless
    all do."""
    causes = []
    for failure in failures:
        only_waits_for_account = failure.kind != "account" and failure.code in waiting.CODES
        if not only_waits_for_account:
            causes.append(failure)
    sentences = []
    for cause in (causes or failures)[:_MAX_CAUSES]:
        kind = words.singular(cause.kind).capitalize()
        sentences.append(f"{kind}: {cause.message.rstrip('.')}.")
    return " ".join(sentences)


@action(access.LINK)
def link(request: HttpRequest, pk: str) -> HttpResponse:
    """Links the learner to an LMS account. The parameter ``sure``, the checkbox under the warning,
    is required."""
    user = _user_or_404(pk)
    name = request.POST.get("lms_username", "")
    lms_id = request.POST.get("lms_user_id", "")
    if not request.POST.get("sure"):
        add_message(
            request, "Not linked: confirm that both belong to the same person.", is_success=False
        )
        return redirect("usher_console:learner", pk=pk)
    try:
        problem = repairing.link(user, name, lms_id)
    except LmsError as error:
        problem = error.message
    detail = {"lms_username": name, "problem": problem}
    audit(request, "link", user.get_username(), succeeded=not problem, **detail)
    if problem:
        add_message(request, f"Not linked: {problem}.", is_success=False)
        return redirect("usher_console:learner", pk=pk)
    add_message(request, f"Linked here to the LMS account {name}.")
    # Shows the command for the LMS's staff; until they run it, the learner can't sign in to the
    # LMS.
    return _render_learner(request, user, comparing.compare(user))


def _user_or_404(text: str) -> Any:
    """Returns the user with this primary key, from a URL. Raises Http404 if there is none."""
    pk = None
    if "\x00" not in text:  # PostgreSQL can't compare a text with NUL
        pk = user_model.primary_key_from_text(text)
    if pk is None:
        raise Http404("no such learner")
    user = get_user_model()._default_manager.filter(pk=pk).first()
    if user is None:
        raise Http404("no such learner")
    return user
