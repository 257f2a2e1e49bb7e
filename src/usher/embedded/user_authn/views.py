"""Registration, its validation, sign-in with a password, and sign-out."""

import contextlib
import html
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt, csrf_protect, ensure_csrf_cookie
from django.views.decorators.http import require_http_methods
from django_ratelimit.decorators import ratelimit
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.limits import client_address, rate_of
from usher.embedded.student import events
from usher.embedded.third_party_auth import registry
from usher.embedded.user_authn import registration, validation
from usher.embedded.user_authn.cookies import delete_logged_in_cookies, set_logged_in_cookies
from usher.embedded.user_authn.errors import RegistrationRefused
from usher.embedded.user_authn.redirects import add_host, is_safe_redirect, target_after_sign_in

_FORM_FIELDS = ("username", "email", "name", "password")


def _requires_provider(request: HttpRequest) -> bool:
    """Whether the LMS accepts only sign-in through a provider, and this browser has begun none."""
    return bool(
        settings.ENABLE_REQUIRE_THIRD_PARTY_AUTH and registry.running_pipeline(request) is None
    )


def _refuse_password(purpose: str) -> HttpResponse:
    return HttpResponseForbidden(
        f"Third party authentication is required to {purpose}. "
        "Username and password were received instead."
    )


class RegistrationView(APIView):
    """``POST`` creates an account; ``GET`` describes the form."""

    authentication_classes = ()

    # ``create_account`` opens its own transaction, after its request to the application.
    @method_decorator(transaction.non_atomic_requests)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().dispatch(request, *args, **kwargs)

    @method_decorator(ensure_csrf_cookie)
    def get(self, request: HttpRequest) -> HttpResponse:
        extra_fields = settings.REGISTRATION_EXTRA_FIELDS
        fields = [{"name": name, "required": True} for name in _FORM_FIELDS]
        fields += [
            {"name": name, "required": rule == "required"}
            for name, rule in extra_fields.items()
            if rule != "hidden"
        ]
        return JsonResponse({"method": "post", "submit_url": request.path, "fields": fields})

    @method_decorator(csrf_exempt)
    @method_decorator(
        ratelimit(
            key=client_address, rate=rate_of("REGISTRATION_RATELIMIT"), method="POST", block=False
        )
    )
    def post(self, request: Any) -> HttpResponse:
        if getattr(request, "limited", False):
            return JsonResponse({"error_code": "forbidden-request"}, status=403)
        if _requires_provider(request):
            return _refuse_password("register")
        data = request.POST.dict()
        if data.get("honor_code") and "terms_of_service" not in data:
            data["terms_of_service"] = data["honor_code"]
        try:
            registration.refuse_duplicates(data)
            registration.refuse_unknown_country(data)
            # ``create_account`` sets ``social_strategy`` on the REST framework's request, where
            # python-social-auth's middleware does not see it. So a failure in that library is a
            # server error, as on the platform, and not a redirect.
            user = registration.create_account(request, data)
        except RegistrationRefused as refused:
            return JsonResponse(refused.body(), status=refused.status)
        except PermissionDenied:
            return HttpResponseForbidden("Account creation not allowed.")
        return self._created_response(request, user)

    def _created_response(self, request: Any, user: User) -> HttpResponse:
        body = {
            "authenticated_user": {
                "username": user.username,
                "full_name": user.profile.name,
                "user_id": user.pk,
            },
            "success": True,
            "redirect_url": add_host(target_after_sign_in(request)),
        }
        return set_logged_in_cookies(request, JsonResponse(body), user)


class RegistrationValidationView(APIView):
    """Validates any of the form's fields; an empty message means that the value is valid."""

    authentication_classes = ()

    @method_decorator(
        ratelimit(
            key=client_address,
            rate=rate_of("REGISTRATION_VALIDATION_RATELIMIT"),
            method="POST",
            block=True,
        )
    )
    def post(self, request: Any) -> Response:
        decisions, suggestions = validation.validate_fields(
            request.data if isinstance(request.data, dict) else {}
        )
        body: dict[str, Any] = {"validation_decisions": decisions}
        if suggestions:
            body["username_suggestions"] = suggestions
        return Response(body)


class LoginSessionView(APIView):
    """Sign-in with e-mail address or username, and password."""

    authentication_classes = ()

    @method_decorator(csrf_protect)
    @method_decorator(
        ratelimit(
            key=client_address,
            rate=rate_of("LOGISTRATION_RATELIMIT_RATE"),
            method="POST",
            block=True,
        )
    )
    def post(self, request: Any) -> HttpResponse:
        django_request = request._request
        if _requires_provider(django_request):
            return _refuse_password("login")
        name = request.POST.get("email_or_username") or request.POST.get("email", "")
        if "@" in name:
            name = User.objects.filter(email=name).values_list("username", flat=True).first() or ""
        user = authenticate(
            django_request, username=name, password=request.POST.get("password", "")
        )
        if user is None:
            return JsonResponse(
                {
                    "success": False,
                    "value": "Email or password is incorrect.",
                    "error_code": "incorrect-email-or-password",
                    "context": {"failure_count": 0},
                },
                status=400,
            )
        if not user.is_active:
            body = {
                "success": False,
                "value": "None",
                "error_code": "inactive-user",
                "context": {"platformName": settings.PLATFORM_NAME, "supportLink": ""},
                "email": user.email,
            }
            return JsonResponse(body, status=400)
        login(django_request, user)
        events.send_login_completed(user)
        answer = JsonResponse(
            {"success": True, "redirect_url": add_host(target_after_sign_in(django_request))}
        )
        return set_logged_in_cookies(django_request, answer, user)


def _frame_url(url: str) -> str:
    """The sign-out URL ``url`` of an application, for a hidden frame. ``no_redirect`` tells the
    application not to redirect back to the LMS's sign-out page."""
    scheme, host, path, query, fragment = urlsplit(url)
    parameters = {**parse_qs(query), "no_redirect": ["1"]}
    return urlunsplit((scheme, host, path, urlencode(parameters, doseq=True), fragment))


def _logout_target(request: HttpRequest) -> str:
    """The URL to open after sign-out. As on the platform, an ampersand becomes ``&amp;``, so a
    second parameter is lost. A space becomes a plus sign, which course keys contain."""
    target = request.GET.get("redirect_url") or request.GET.get("next") or ""
    target = html.escape(html.unescape(target), quote=False).replace(" ", "+")
    if target and is_safe_redirect(request, target, request.GET.get("client_id")):
        return target
    return "/"


@require_http_methods(["GET", "HEAD", "POST"])
def logout_view(request: HttpRequest) -> HttpResponse:
    """End the session, then load the URLs of IDA_LOGOUT_URI_LIST in hidden frames. With
    TPA_AUTOMATIC_LOGOUT_ENABLED and an unfinished sign-in, redirect to the ``logout_url`` of its
    provider instead."""
    # Read before ``logout``, which deletes the session with the unfinished sign-in.
    provider = registry.provider_of_running_pipeline(request) if registry.is_enabled() else None
    logout(request)
    # The application from which the browser comes has already ended its own session.
    referrer = request.META.get("HTTP_REFERER", "").strip("/")
    frames = [
        _frame_url(url)
        for url in settings.IDA_LOGOUT_URI_LIST
        if not (referrer and url.startswith(referrer))
    ]
    response: HttpResponse = render(
        request,
        "user_authn/logout.html",
        {"target": _logout_target(request), "frames": frames, "title": "Signed Out"},
    )
    if settings.TPA_AUTOMATIC_LOGOUT_ENABLED and provider is not None:
        with contextlib.suppress(KeyError):
            response = redirect(provider.get_setting("logout_url"))
    return delete_logged_in_cookies(response)


def jwks_view(request: HttpRequest) -> HttpResponse:
    """The public part of the key that signs the sign-in cookies."""
    return HttpResponse(
        settings.JWT_AUTH["JWT_PUBLIC_SIGNING_JWK_SET"], content_type="application/json"
    )
