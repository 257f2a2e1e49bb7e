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
from usher.engine.transactions import InTransaction

_MAX_QUERY_LENGTH = 255
#: The most causes that the message about a repair names.
_MAX_CAUSES = 3


@page()
def find(request: HttpRequest) -> HttpResponse:
    """``/staff/learners/?q=…``: search; redirects to the learner if only one is found."""
    text = request.GET.get("q", "")[:_MAX_QUERY_LENGTH]
    result = finding.find(text)
    if len(result.users) == 1 and not result.is_prefix_search:
        return redirect("usher_console:learner", pk=result.users[0].pk)
    context = {
        "text": text.replace("\x00", ""),  # a browser may send NUL, which HTML does not allow
        "result": result,
        "recent_refusals": [] if text else newest_refusals_of_all(all_kinds().values(), limit=10),
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


# Shows the first message below that applies. Within a transaction, leaves the records to a worker.
@action(access.REPAIR)
def repair(request: HttpRequest, pk: str) -> HttpResponse:
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
    audit(request, "repair", user.get_username(), **_audited_counts(summary))
    if stopped_kinds := repairing.stopped_kinds(user):
        add_message(
            request,
            f"Stopped for all learners: {', '.join(stopped_kinds)}. The overview says why.",
            is_success=False,
        )
    elif summary.failed:
        add_message(
            request,
            f"Not everything was repaired. {_causes_text(summary.failures)}",
            is_success=False,
        )
    elif summary.waiting:
        add_message(
            request,
            f"Not everything could be sent yet. {_causes_text(summary.waiting)}",
            is_success=False,
        )
    elif summary.by_others:
        add_message(
            request,
            f"A worker had already claimed {summary.by_others} of the records. It has repaired "
            "them, unless this page says otherwise. Compare with the LMS to be sure.",
        )
    elif summary.changed:
        add_message(request, f"Repaired: {summary.line()}.")
    elif services.read_learner(user).verdict.state == "ok":
        add_message(request, "There was nothing to repair.")
    else:
        add_message(
            request, "Repair now can't correct this. See below what to do.", is_success=False
        )
    return redirect("usher_console:learner", pk=pk)


def _causes_text(failures: Sequence[Any]) -> str:
    """Returns why records failed or wait. Leaves out records that only wait for the account."""
    causes = [
        failure
        for failure in failures
        if failure.kind == "account" or failure.code not in waiting.CODES
    ] or list(failures)
    sentences = (
        f"{words.singular(cause.kind).capitalize()}: {cause.message.rstrip('.')}."
        for cause in causes[:_MAX_CAUSES]
    )
    return " ".join(sentences)


def _audited_counts(summary: Any) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in ("changed", "unchanged", "failed")}


@action(access.LINK)
def link(request: HttpRequest, pk: str) -> HttpResponse:
    """Links the learner to an LMS account. The parameter ``sure``, the checkbox under the warning,
    is required."""
    user = _user_or_404(pk)
    name, lms_id = request.POST.get("lms_username", ""), request.POST.get("lms_user_id", "")
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
    # PostgreSQL can't compare a text with NUL.
    pk = user_model.primary_key_from_text(text) if "\x00" not in text else None
    user = get_user_model()._default_manager.filter(pk=pk).first() if pk is not None else None
    if user is None:
        raise Http404("no such learner")
    return user
