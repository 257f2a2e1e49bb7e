"""The OAuth2 provider's pages and endpoints, built on the views of the OAuth toolkit."""

import json
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, QueryDict
from django.shortcuts import render, resolve_url
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_safe
from oauth2_provider import views as toolkit
from oauth2_provider.models import get_access_token_model, get_application_model
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.signals import app_authorized

from usher.application.accounts import eligibility
from usher.application.adapter import AdapterFailed, log_failure
from usher.application.audit.services import record
from usher.application.provider import bearer, claims, limits
from usher.application.provider.clients import is_lms
from usher.application.provider.validator import client_authenticated
from usher.application.requests import is_storable
from usher.contract.oauth import SCOPE_USER_READ

#: The longest values that are stored with an authorization code.
_MAX_LENGTHS = {"nonce": 255, "code_challenge": 128, "code_challenge_method": 10}
#: The longest values of all other parameters.
_MAX_LENGTH = 10_000
_GRANT_TYPES = ("authorization_code", "refresh_token")
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@method_decorator(never_cache, name="dispatch")
class AuthorizationView(toolkit.AuthorizationView):
    """``/oauth2/authorize/``: asks the learner to sign in and redirects to the client with a code.
    A learner who may not use the LMS gets a page with the reason instead."""

    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "options"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not (_fits_columns(request.GET) and _fits_columns(request.POST)):
            return HttpResponse("The request can't be read.", status=400, content_type="text/plain")
        if not _wants_query(request):
            text = "The only response mode is query."
            return HttpResponse(text, status=400, content_type="text/plain")
        try:
            ineligibility = _ineligibility_for_lms(request)
        except AdapterFailed as error:
            log_failure(error)
            return render(request, "usher/unavailable.html", status=503)
        if ineligibility:
            home = resolve_url(settings.LOGIN_REDIRECT_URL)
            context = {"home": home, "is_unconfirmed": ineligibility == eligibility.UNCONFIRMED}
            return render(request, "usher/not_eligible.html", context, status=403)
        try:
            return super().dispatch(request, *args, **kwargs)
        except ValueError:  # oauthlib can't read the query: broken percent encoding
            return HttpResponse("The request can't be read.", status=400, content_type="text/plain")

    def form_valid(self, form: Any) -> HttpResponse:
        """Handles the consent form. Checks the hidden fields: after the form was shown, the browser
        may have changed them, or the client may have been deleted."""
        clients = get_application_model().objects
        client = clients.filter(client_id=form.cleaned_data["client_id"]).first()
        if client is None or not client.redirect_uri_allowed(form.cleaned_data["redirect_uri"]):
            return HttpResponse(
                "No client is registered with this client id and redirect URI.",
                status=400,
                content_type="text/plain",
            )
        response: HttpResponse = super().form_valid(form)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        """Answers a consent form that was submitted without its fields."""
        return HttpResponse("The request is incomplete.", status=400, content_type="text/plain")

    def redirect(self, redirect_to: str, application: Any) -> HttpResponse:
        """Adds ``iss``, the provider's address, to every answer to a client (RFC 9207 2)."""
        issuer = oauth2_settings.oauth2_authorization_server_issuer(self.request)
        return super().redirect(_with_issuer(redirect_to, issuer), application)


def _fits_columns(parameters: QueryDict) -> bool:
    """Whether the values of a request fit into the columns of an authorization code."""
    for name, values in parameters.lists():
        max_length = _MAX_LENGTHS.get(name, _MAX_LENGTH)
        if any("\x00" in value or len(value) > max_length for value in values):
            return False
    return True


def _wants_query(request: HttpRequest) -> bool:
    """Whether the answer goes into the query of the redirect URI, which is the default.

    The toolkit also puts it into the fragment if the request says so. Browsers keep a fragment when
    the client redirects, so that scripts of later pages could read a code that the client itself
    has not used.
    """
    modes = (*request.GET.getlist("response_mode"), *request.POST.getlist("response_mode"))
    return set(modes) <= {"", "query"}


def _ineligibility_for_lms(request: HttpRequest) -> str:
    """Why this user must not be signed in at the LMS, a code of ``eligibility.SENTENCES``: the LMS
    would create an account, perhaps with another person's e-mail address. '' if the user may have
    an LMS account, or if the client is no LMS. Raises AdapterFailed."""
    if not request.user.is_authenticated:
        return ""
    code = eligibility.ineligibility_code(request.user)
    if not code:
        return ""
    client_id = request.GET.get("client_id") or request.POST.get("client_id") or ""
    clients = get_application_model().objects.select_related("usher_policy")
    is_for_lms = is_storable(client_id) and is_lms(clients.filter(client_id=client_id).first())
    return code if is_for_lms else ""


def _with_issuer(uri: str, issuer: str) -> str:
    """``uri`` with ``iss`` as its last parameter, in place of any ``iss`` that it has."""
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    parameters = [(name, value) for name, value in pairs if name != "iss"]
    return urlunsplit(parts._replace(query=urlencode([*parameters, ("iss", issuer)])))


class TokenView(toolkit.TokenView):
    """``/oauth2/token/``: exchanges codes and refresh tokens for access tokens. Answers 429 after
    too many failures, and 503 if the project's adapter fails."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        client_id = limits.claimed_client_id(request)
        if limited := limits.TOKENS.refusal(request, client_id):
            return limited
        if request.POST.get("grant_type") not in _GRANT_TYPES:
            error = {"error": "unsupported_grant_type"}
            # The client has not authenticated, so this also counts against the address.
            limited = limits.TOKENS.count_failure(request, client_id, is_wrong=True)
            return limited or JsonResponse(error, status=400, headers=_NO_STORE)
        client_authenticated.set(False)  # the validator sets it, ``_count_failure`` reads it
        try:
            _, headers, body, status = self.create_token_response(request)
        except AdapterFailed as error:
            return _unavailable(error)
        if status != 200:
            return self._refusal(request, client_id, headers, body, status)
        limits.TOKENS.note_success(request, client_id)
        # The toolkit's signal; without a receiver, the query for its token is saved.
        if app_authorized.has_listeners():
            token_value = json.loads(body)["access_token"]
            checksum = sha256(token_value.encode()).hexdigest()
            token = get_access_token_model().objects.get(token_checksum=checksum)
            app_authorized.send(sender=self, request=request, token=token)
        return HttpResponse(body, status=status, headers=headers)

    def _refusal(
        self,
        request: HttpRequest,
        client_id: str,
        headers: dict[str, str],
        body: str,
        status: int,
    ) -> HttpResponse:
        """The answer to a token request that failed, which counts as a failure of this client: 429
        if there were too many, else the toolkit's answer, of which 401 is written to the audit log.
        headers, body, status: of the toolkit's answer."""
        if limited := _count_failure(request, client_id):
            return limited
        if status == 401:
            # RFC 6749 5.2: the scheme that the client may use, which is Basic.
            headers = headers | {"WWW-Authenticate": 'Basic realm="oauth2"'}
            record("client-refused", subject=client_id, request=request, succeeded=False)
        return HttpResponse(body, status=status, headers={**headers, **_NO_STORE})


class RevokeTokenView(toolkit.RevokeTokenView):
    """``/oauth2/revoke_token/`` (RFC 7009)"""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        client_id = limits.claimed_client_id(request)
        if limited := limits.TOKENS.refusal(request, client_id):
            return limited
        client_authenticated.set(False)
        response: HttpResponse = super().post(request, *args, **kwargs)
        if response.status_code != 200:
            return _count_failure(request, client_id) or response
        return response


def _unavailable(error: AdapterFailed) -> JsonResponse:
    """Answers 503. Logs the cause and leaves it out of the answer, since the cause may contain
    internals."""
    log_failure(error)
    body = {
        "error": "temporarily_unavailable",
        "error_description": "The application can't look up this user now; its log has the reason.",
    }
    return JsonResponse(body, status=503, headers=_NO_STORE)


def _count_failure(request: HttpRequest, client_id: str) -> JsonResponse | None:
    """Counts a failed request. Returns the answer to send if there were too many, else None.

    Failures of an authenticated client are not attempts to guess a secret, so they do not count
    against the address.
    """
    is_wrong = not client_authenticated.get()
    return limits.TOKENS.count_failure(request, client_id, is_wrong=is_wrong)


def _require_eligible(user: Any) -> None:
    """Raises BearerError if the user may have no LMS account now."""
    if code := eligibility.ineligibility_code(user):
        raise bearer.BearerError(403, "access_denied", eligibility.SENTENCES[code])


@csrf_exempt
@require_safe
def users_me(request: HttpRequest) -> JsonResponse:
    """``/api/users/me``: the user of an LMS's access token. Refuses a user who may have no LMS
    account now."""
    try:
        token = bearer.lms_token(request, any_of={SCOPE_USER_READ})
        _require_eligible(token.user)
        profile = claims.profile(token.user)
    except bearer.BearerError as error:
        return error.response()
    except AdapterFailed as error:
        return _unavailable(error)
    return JsonResponse(profile, headers=_NO_STORE)


@csrf_exempt
def userinfo(request: HttpRequest) -> HttpResponse:
    """OpenID Connect's userinfo. Accepts tokens with ``user:read`` only, too; see ``claims``."""
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD, POST"})
    try:
        token = bearer.access_token(request, any_of={SCOPE_USER_READ, "openid"})
        if "openid" not in token.scope.split():
            token = bearer.lms_token(request, any_of={SCOPE_USER_READ})
        _require_eligible(token.user)
        scopes = set(token.scope.split())
        if is_lms(token.application):
            result = claims.claims(token.user, scopes)
        else:
            # ol-social-auth signs in the learner that ``username`` names: see
            # ``bearer.lms_token``.
            result = claims.claims(token.user, scopes - {SCOPE_USER_READ})
            result.pop("username", None)
    except bearer.BearerError as error:
        return error.response()
    except AdapterFailed as error:
        return _unavailable(error)
    return JsonResponse(result, headers=_NO_STORE)


@require_GET
@never_cache
def landing(request: HttpRequest) -> HttpResponse:
    """The redirect URI of the application's own client in the LMS.

    The application reads the code from the LMS's redirect itself, so browsers don't normally come
    here. The page links to the application's home page, whatever the query says.
    """
    home = resolve_url(settings.LOGIN_REDIRECT_URL)
    response = render(request, "usher/landing.html", {"home": home})
    response["Referrer-Policy"] = "no-referrer"  # the address contains a code
    return response
