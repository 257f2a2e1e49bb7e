from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from usher.console import access
from usher.console.access import action, audit, page
from usher.console.doctor import services
from usher.console.pages import add_message, render_page


@page()
def doctor(request: HttpRequest) -> HttpResponse:
    """``/staff/doctor/``: shows the last run. Opening the page runs no checks."""
    return render_page(request, "doctor", {"findings": services.last_findings()})


@action(access.DOCTOR)
def run_now(request: HttpRequest) -> HttpResponse:
    """Runs the checks, which takes some seconds, and shows their results."""
    try:
        run = services.run_now(request.user)
    except services.NoDoctor as error:
        add_message(request, str(error), is_success=False)
    except services.AlreadyRunning:
        text = "The checks are running already; reload in a moment."
        add_message(request, text, is_success=False)
    else:
        failed = run.report["counts"].get("failed", 0)
        audit(request, "doctor", "checks", failed=failed)
        if failed:
            noun = "check" if failed == 1 else "checks"
            add_message(request, f"{failed} {noun} failed.", is_success=False)
        else:
            add_message(request, "No check failed.")
    return redirect("usher_console:doctor")
