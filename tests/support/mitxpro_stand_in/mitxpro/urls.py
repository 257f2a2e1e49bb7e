from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpResponse
from django.urls import include, path
from users import views

urlpatterns = [
    path("", lambda request: HttpResponse("MIT xPro's stand-in")),
    path("oauth2/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("api/users/me", views.me),
    path("login/", LoginView.as_view(template_name="users/login.html"), name="login"),
    path("login/_private/complete", views.landing, name="openedx-private-oauth-complete"),
    path("logout/", LogoutView.as_view()),
]
