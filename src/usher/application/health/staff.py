"""``/staff/health/``: the results of ``usher doctor`` for this application and its LMS."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import permission_required
from django.core.cache import cache
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache

from usher.application import conf
from usher.application.health import facts
from usher.contract.application_report import ApplicationReport

#: Imported by name, because an application can run without the package ``doctor``.
_DOCTOR = "usher.doctor.staff.run_checks"


#: Seconds for which a report is cached, because a report takes some thirty requests to the LMS.
_CACHE_SECONDS = 30
_CACHE_KEY = "usher-staff-health"


@never_cache
@staff_member_required
@permission_required("usher.view_health", raise_exception=True)
def health(request: HttpRequest) -> HttpResponse:
    """A page, or JSON with ``?format=json``. Answers 503 if a check failed.

    Needs a permission, because the page names learners and settings and sends requests to the LMS.
    """
    report = cache.get(_CACHE_KEY)
    if report is None:
        try:
            run_checks = import_string(_DOCTOR)
        except ImportError as error:
            return HttpResponse(
                f"The checks need the extra 'shell': {error}", content_type="text/plain", status=501
            )
        report = {**examine(run_checks), "at": timezone.now().isoformat(timespec="seconds")}
        cache.set(_CACHE_KEY, report, _CACHE_SECONDS)
    status = 200 if report["healthy"] else 503
    if request.GET.get("format") == "json":
        return JsonResponse(report, status=status)
    context = {**admin.site.each_context(request), "title": "Health", "report": report}
    return render(request, "usher/health.html", context, status=status)


def examine(run_checks: Any) -> dict[str, Any]:
    """Runs doctor's checks and returns their result. run_checks: ``usher.doctor.staff.run_checks``.
    Raises ImproperlyConfigured for malformed settings."""
    settings = conf.settings()
    report: dict[str, Any] = run_checks(
        _report_in_thread,
        application_url=settings.site_base_url,
        lms_url=settings.api_base_url,
        token=settings.service_worker_api_token,
    )
    return report


def _report_in_thread() -> ApplicationReport:
    """Runs in one of doctor's threads, and closes that thread's database connections."""
    try:
        return facts.report()
    finally:
        connections.close_all()
