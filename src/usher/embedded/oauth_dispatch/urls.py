from django.urls import re_path

from usher.embedded.oauth_dispatch import views

urlpatterns = [
    re_path(r"^authorize/?$", views.AuthorizationView.as_view(), name="authorize"),
    re_path(r"^access_token/?$", views.AccessTokenView.as_view(), name="access_token"),
    re_path(r"^revoke_token/?$", views.RevokeTokenView.as_view(), name="revoke_token"),
]
