from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils.html import escape
from oauth2_provider.decorators import protected_resource


def home(request):
    name = escape(request.user.get_username()) if request.user.is_authenticated else "nobody"
    return HttpResponse(f"<title>{escape(settings.SITE_NAME)}</title><p>Signed in: {name}</p>")


@protected_resource(scopes=["user:read"])
def users_me(request):
    user = request.resource_owner
    return JsonResponse(
        {
            "id": user.pk,
            "username": user.username,
            "email": user.email,
            "name": user.get_full_name(),
        }
    )


def landing(request):
    return HttpResponse("ok")


def sign_out(request):
    """Ends the session. The LMS requests this page with ``no_redirect`` in a hidden frame."""
    logout(request)
    if "no_redirect" in request.GET:
        return HttpResponse("signed out")
    return HttpResponseRedirect(settings.LOGOUT_REDIRECT_URL)
