from django.contrib.auth.views import LogoutView
from django.http import HttpResponse
from django.urls import include, path
from users import views

urlpatterns = [
    path("", lambda request: HttpResponse("MITx Online's stand-in")),
    path("oauth2/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("api/users/me", views.me),
    path("login/", views.gateway_login, name="gateway-login"),
    path("login/_private/complete", views.landing, name="openedx-private-oauth-complete"),
    path("_/auth/complete", views.landing, name="openedx-private-oauth-complete-no-apisix"),
    path("logout/", LogoutView.as_view()),
]
