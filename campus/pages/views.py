from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from pages import catalog
from usher.application import learner_texts
from usher.application.adapter import AdapterFailed, log_failure
from usher.application.enrollments.services import ModeNotAllowed, NotEnrolled, enroll, unenroll
from usher.application.runs.models import CourseRun


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """``/``: the catalog."""
    words = request.GET.get("q", "")
    runs = catalog.visible_runs(words)
    page = Paginator(runs, catalog.PAGE_SIZE).get_page(request.GET.get("page"))
    statuses = catalog.statuses(request.user, page.object_list)
    items = [(run, catalog.stage(run), statuses.get(run.pk)) for run in page.object_list]
    return render(request, "pages/home.html", {"page": page, "runs": items, "words": words})


@require_safe
def course_run(request: HttpRequest, course_key: str) -> HttpResponse:
    """``/courses/<key>/``: the page of a course run."""
    run = _find_run_or_404(course_key)
    context: dict[str, Any] = {
        "run": run,
        "stage": catalog.stage(run),
        "enrolled_run": catalog.find_enrolled_run(request.user, run),
        "can_enroll": run.is_enrollable(),
        "is_free": catalog.is_free(request.user, run),
    }
    return render(request, "pages/course_run.html", context)


@require_POST
@login_required
def enroll_learner(request: HttpRequest, course_key: str) -> HttpResponse:
    """``/courses/<key>/enroll/``: enroll the signed-in learner."""
    run = _find_run_or_404(course_key)
    if not run.is_enrollable():
        messages.error(request, f"{run} does not accept enrollments now.")
        return redirect("course-run", course_key=run.course_key)
    try:
        enroll(request.user, run)
    except ModeNotAllowed:
        messages.error(request, f"{run} is not free: all its modes are paid.")
    except AdapterFailed as error:
        log_failure(error)
        messages.error(request, f"You can't be enrolled in {run} at the moment. Try again later.")
    else:
        messages.success(request, f"You are enrolled in {run}.")
    return redirect("course-run", course_key=run.course_key)


@require_POST
@login_required
def unenroll_learner(request: HttpRequest, course_key: str) -> HttpResponse:
    """``/courses/<key>/unenroll/``: unenroll the signed-in learner."""
    run = _find_run_or_404(course_key)
    try:
        unenroll(request.user, run)
    except NotEnrolled:
        messages.info(request, f"You are not enrolled in {run}.")
    else:
        messages.success(request, f"You have left {run}.")
    return redirect("course-run", course_key=run.course_key)


@require_safe
@login_required
def dashboard(request: HttpRequest) -> HttpResponse:
    """``/dashboard/``: the learner's runs, each with a link that opens it in the LMS."""
    context = {
        "account": learner_texts.of_account(catalog.lms_account(request.user)),
        "enrolled_runs": catalog.enrolled_runs(request.user),
        "lms_link": catalog.dashboard_link(),
    }
    return render(request, "pages/dashboard.html", context)


def _find_run_or_404(course_key: str) -> CourseRun:
    run = catalog.find_run(course_key)
    if run is None:
        raise Http404("no such course run")
    return run
