"""The last step of sign-in for an account that isn't active yet."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect

from usher.embedded.core.requests import SignedInRequest
from usher.embedded.third_party_auth import registry
from usher.embedded.user_authn.redirects import is_safe_redirect


@login_required
def inactive_user_view(request: SignedInRequest) -> HttpResponse:
    """Signs in a user whom the provider confirms; a trusted provider activates the account."""
    record = registry.of_running_pipeline(request) if registry.is_enabled() else None
    if record and record.skip_email_verification and not request.user.is_active:
        request.user.is_active = True
        request.user.save(update_fields=["is_active"])
    target = request.GET.get("next")
    if target and is_safe_redirect(request, target, request.GET.get("client_id")):
        return redirect(target)
    return redirect("dashboard")
