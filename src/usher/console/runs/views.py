from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from usher.application.runs.models import CourseRun
from usher.application.states import state
from usher.console import access
from usher.console.access import action, audit, page
from usher.console.pages import show
from usher.console.runs import services


@page()
def find(request: HttpRequest) -> HttpResponse:
    """``/staff/runs/?q=…``"""
    text = request.GET.get("q", "")
    pages = Paginator(services.runs(text), services.PAGE)
    found = pages.get_page(request.GET.get("page"))
    context = {"text": text, "page": found, "runs": [(run, state(run)) for run in found]}
    return show(request, "runs", context)


@page()
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """``/staff/runs/<id>/``"""
    found = get_object_or_404(CourseRun, pk=pk)
    return show(request, "runs/run", {"found": services.page_of(found)})


@action(access.COMPARE)
def compare(request: HttpRequest, pk: int) -> HttpResponse:
    """The page with what the LMS says now; changes nothing on either side."""
    found = get_object_or_404(CourseRun, pk=pk)
    compared = services.compare(found)
    audit(request, "compare", found.course_key, differences=compared.differences)
    context = {"found": services.page_of(found), "compared": compared}
    return show(request, "runs/run", context)
