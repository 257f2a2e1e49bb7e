"""The toolkit's own endpoints, ``users/me`` and the landing page."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from oauth2_provider import views
from oauth2_provider.views.generic import ProtectedResourceView


class Me(ProtectedResourceView):
    def get(self, request: HttpRequest) -> JsonResponse:
        user = request.resource_owner
        return JsonResponse(
            {
                "id": user.pk,
                "username": user.username,
                "email": user.email,
                "name": user.get_full_name() or user.username,
            }
        )


def landing(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Signed in.")


urlpatterns = [
    path("oauth2/authorize/", views.AuthorizationView.as_view()),
    path("oauth2/token/", views.TokenView.as_view()),
    path("api/users/me", Me.as_view()),
    path("login/_private/complete", landing),
]
