from urllib.parse import urlencode

from django.conf import settings as django_settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from usher.application import conf
from usher.application.provider import limits
from usher.application.provider.signout import receiving
from usher.application.requests import body_of

MAX_BODY_BYTES = 10_000


@csrf_exempt
@xframe_options_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_out(request: HttpRequest) -> HttpResponse:
    """``/logout/``: ends the session here, then the one in the LMS.

    GET works and needs no CSRF token, because the LMS's sign-out page calls this URL in a hidden
    frame. So a page of another site can sign a user out, and do nothing else. With
    ``no_redirect=1`` the answer is two words of text; otherwise it redirects to
    ``LOGOUT_REDIRECT_URL`` (the LMS's sign-out), or to ``next`` if that is a path of this site.
    """
    if request.method == "HEAD":
        return HttpResponse()
    logout(request)
    if request.GET.get("no_redirect"):
        return HttpResponse("signed out", content_type="text/plain")
    return HttpResponseRedirect(_destination(request))


def _destination(request: HttpRequest) -> str:
    """Where to redirect the browser after the sign-out: see ``sign_out``."""
    settings = conf.settings()
    home = settings.site_base_url + "/" if settings.site_base_url else "/"
    if settings.logout_redirect_url:
        separator = "&" if "?" in settings.logout_redirect_url else "?"
        return settings.logout_redirect_url + separator + urlencode({"redirect_url": home})
    url = request.GET.get("next") or request.POST.get("next") or ""
    if url.startswith("/") and url_has_allowed_host_and_scheme(url, allowed_hosts=None):
        return url
    return resolve_url(getattr(django_settings, "USHER_SIGNED_OUT_URL", "/"))


@csrf_exempt
@require_POST
def lms_signed_out(request: HttpRequest) -> JsonResponse:
    """``/usher/backchannel-logout/``: receives a signed message of the LMS."""
    if limited := limits.SIGN_OUTS.refusal(request):
        return limited
    try:
        body = body_of(request, MAX_BODY_BYTES)
        if body is None:
            raise receiving.SignOutRefused(413, "The body is too long.")
        ended = receiving.receive(request, body)
    except receiving.SignOutRefused as refusal:
        is_wrong = refusal.status == 401  # a wrong signature
        limited = limits.SIGN_OUTS.count_failure(request, is_wrong=is_wrong)
        return limited or JsonResponse({"error": str(refusal)}, status=refusal.status)
    limits.SIGN_OUTS.note_success(request)
    return JsonResponse({"ended": ended})
