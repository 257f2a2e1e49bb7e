"""The page for a request that can't be read."""

from django.http import HttpRequest, HttpResponseBadRequest
from django.template.loader import render_to_string

from pages.context import site


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBadRequest:
    """The page with status 400. It doesn't read the form of the request.

    Django's own view does, to check the CSRF token. If the form is in another encoding than UTF-8,
    which is the reason for the page, that raises the exception again, and the server answers with
    an empty 500.
    """
    return HttpResponseBadRequest(render_to_string("400.html", site(request)))
