from django.http import HttpResponse, JsonResponse
from oauth2_provider.decorators import protected_resource


@protected_resource(scopes=["user:read"])
def me(request):
    user = request.resource_owner
    return JsonResponse(
        {
            "id": user.pk,
            "username": user.username,
            "email": user.email,
            "name": user.name,
            "is_active": user.is_active,
        }
    )


def landing(request):
    return HttpResponse("signed in")
