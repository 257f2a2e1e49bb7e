from django.contrib.auth.views import LoginView
from django.urls import include, path, re_path

from shop.courses import views

urlpatterns = [
    path("", views.home),
    path("signin/", LoginView.as_view(template_name="signin.html")),
    path("logout/", views.sign_out),
    path("login/_private/complete", views.landing),
    path("oauth2/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    re_path(r"^api/users/me/?$", views.users_me),
]
