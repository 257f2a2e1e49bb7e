from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils.http import url_has_allowed_host_and_scheme
from oauth2_provider.decorators import protected_resource


@protected_resource(scopes=["user:read"])
def me(request):
    user = request.resource_owner
    return JsonResponse(
        {
            "id": user.pk,
            "username": user.edx_username,
            "email": user.email,
            "name": user.name,
            "is_active": user.is_active,
        }
    )


def gateway_login(request):
    """Redirects back to the page that required the sign-in. The gateway signs the user in before
    the request arrives here; without a gateway, the redirects never end."""
    target = request.GET.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}):
        target = "/"
    return HttpResponseRedirect(target)


def landing(request):
    return HttpResponse("signed in")
