"""The Content-Security-Policy of campus's pages: only campus's own resources, no inline scripts."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

#: Has no form-action, because browsers also apply form-action to redirects, and the forms for
#: sign-in and sign-out redirect to the LMS.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that sets ``POLICY`` for HTML pages, unless the view has set a policy."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return middleware
