"""Error pages."""

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.shortcuts import render

log = logging.getLogger(__name__)


def _page(request: HttpRequest, status: int, *, title: str, text: str) -> HttpResponse:
    context = {"title": title, "text": text, "status": status}
    return render(request, "pages/error.html", context, status=status)


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _page(
        request, 400, title="Bad Request", text="The LMS could not understand this request."
    )


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Status 403, also for requests over an address's rate limit."""
    return HttpResponseForbidden("<h1>403 Forbidden</h1>")


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _page(request, 404, title="Page Not Found", text="There is no page at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Status 500; only the log says why."""
    return _page(request, 500, title="", text="There has been an error on the server.")
