"""The LMS as an OAuth2 server: ``/oauth2/authorize``, ``access_token``, ``revoke_token``."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django_ratelimit import ALL
from django_ratelimit.decorators import ratelimit
from oauth2_provider import views
from oauth2_provider.exceptions import OAuthToolkitError
from oauth2_provider.http import OAuth2ResponseRedirect
from oauth2_provider.models import get_access_token_model, get_application_model
from oauth2_provider.scopes import get_scopes_backend
from oauth2_provider.settings import oauth2_settings

from usher.embedded.core.limits import client_address, rate_of
from usher.embedded.oauth_dispatch import jwt


@method_decorator(csrf_exempt, name="dispatch")
class AuthorizationView(views.AuthorizationView):
    """Asks the user to approve an application only once, even if the application's token has
    expired."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        prompt = request.GET.get("approval_prompt", oauth2_settings.REQUEST_APPROVAL_PROMPT)
        if prompt != "auto_even_if_expired":
            return super().get(request, *args, **kwargs)
        application = None
        try:
            scopes, credentials = self.validate_authorization_request(request)
            application = get_application_model().objects.get(client_id=credentials["client_id"])
            if application.skip_authorization or self._was_approved(request, application, scopes):
                uri, _headers, _body, _status = self.create_authorization_response(
                    request=request, scopes=" ".join(scopes), credentials=credentials, allow=True
                )
                return OAuth2ResponseRedirect(uri, application.get_allowed_schemes())
        except OAuthToolkitError as error:
            return self.error_response(error, application)
        return self._ask_for_approval(application, scopes, credentials, kwargs)

    def _was_approved(self, request: HttpRequest, application: Any, scopes: list[str]) -> bool:
        earlier_tokens = get_access_token_model().objects.filter(
            user=request.user, application=application
        )
        return any(token.allow_scopes(scopes) for token in earlier_tokens)

    def _ask_for_approval(
        self,
        application: Any,
        scopes: list[str],
        credentials: dict[str, Any],
        kwargs: dict[str, Any],
    ) -> HttpResponse:
        descriptions = get_scopes_backend().get_all_scopes()
        data = {
            **kwargs,
            "application": application,
            "scopes": scopes,
            "scopes_descriptions": [descriptions[scope] for scope in scopes],
            **{
                name: credentials.get(name)
                for name in ("client_id", "redirect_uri", "response_type", "state")
            },
        }
        self.oauth2_data = data
        data["form"] = self.get_form(self.get_form_class())
        return self.render_to_response(self.get_context_data(**data))


@method_decorator(
    ratelimit(key=client_address, rate=rate_of("RATELIMIT_RATE"), method=ALL, block=True),
    name="dispatch",
)
@method_decorator(csrf_exempt, name="dispatch")
class AccessTokenView(views.TokenView):
    """The token endpoint. If the request has ``token_type=jwt`` or a header ``X-Token-Type: jwt``,
    the answer has a JSON Web Token in place of the opaque token."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().dispatch(request, *args, **kwargs)
        type_in_header = request.META.get("HTTP_X_TOKEN_TYPE", "")
        token_type = request.POST.get("token_type", type_in_header).lower()
        if response.status_code == 200 and token_type == "jwt":  # noqa: S105 - a type
            asymmetric = bool(request.POST.get("asymmetric_jwt", False))
            token = jwt.replace_access_token(json.loads(response.content), asymmetric=asymmetric)
            response.content = json.dumps(token).encode()
        return response


class RevokeTokenView(views.RevokeTokenView):
    pass
