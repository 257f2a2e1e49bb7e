"""The last step of sign-in through a provider, if the account isn't active."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect

from usher.embedded.core.requests import SignedInRequest
from usher.embedded.third_party_auth import registry
from usher.embedded.user_authn.redirects import is_safe_redirect


@login_required
def inactive_user_view(request: SignedInRequest) -> HttpResponse:
    """Activates the account if the provider is trusted (``skip_email_verification``), and redirects
    to ``next``. The user is signed in either way."""
    record = registry.provider_of_running_pipeline(request) if registry.is_enabled() else None
    if record and record.skip_email_verification and not request.user.is_active:
        request.user.is_active = True
        request.user.save(update_fields=["is_active"])
    target = request.GET.get("next")
    if target and is_safe_redirect(request, target, request.GET.get("client_id")):
        return redirect(target)
    return redirect("dashboard")
