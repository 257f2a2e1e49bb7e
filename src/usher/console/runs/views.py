from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from usher.application.runs.models import CourseRun
from usher.application.runs.services import refresh_soon
from usher.application.states import state
from usher.console import access
from usher.console.access import action, audit, page
from usher.console.pages import add_message, render_page
from usher.console.runs import services
from usher.engine.notify import notify_workers
from usher.engine.transactions import InTransaction


@page()
def find(request: HttpRequest) -> HttpResponse:
    """``/staff/runs/?q=…``"""
    text = request.GET.get("q", "")
    pages = Paginator(services.search_runs(text), services.PAGE_SIZE)
    page = pages.get_page(request.GET.get("page"))
    context = {"text": text, "page": page, "runs": [(run, state(run)) for run in page]}
    return render_page(request, "runs", context)


@page()
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """``/staff/runs/<id>/``"""
    row = get_object_or_404(CourseRun, pk=pk)
    return render_page(request, "runs/run", {"details": services.read_run_details(row)})


@action(access.REPAIR)
def synchronise(request: HttpRequest, pk: int) -> HttpResponse:
    """Copies the run's current values from the LMS."""
    row = get_object_or_404(CourseRun, pk=pk)
    try:
        problem = services.synchronise(row)
    except InTransaction:
        refresh_soon(row.course_key)
        notify_workers()
        audit(request, "synchronise", row.course_key, queued=True)
        add_message(
            request,
            "Queued: this project runs each request in a transaction, so a worker will synchronise "
            "the run.",
        )
        return redirect("usher_console:run", pk=pk)
    audit(request, "synchronise", row.course_key, succeeded=not problem, problem=problem)
    if problem:
        add_message(request, f"Not synchronised: {problem}", is_success=False)
    else:
        add_message(request, "Synchronised: the LMS's values were copied here.")
    return redirect("usher_console:run", pk=pk)


@action(access.COMPARE)
def compare(request: HttpRequest, pk: int) -> HttpResponse:
    """The page with the LMS's current values; changes nothing here or in the LMS."""
    row = get_object_or_404(CourseRun, pk=pk)
    compared = services.compare(row)
    audit(request, "compare", row.course_key, differences=compared.difference_count)
    context = {"details": services.read_run_details(row), "compared": compared}
    return render_page(request, "runs/run", context)
