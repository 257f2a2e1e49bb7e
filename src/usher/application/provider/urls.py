"""URLs under ``/oauth2/``. The namespace is the OAuth toolkit's, because the toolkit reverses its
URLs by this namespace.

Introspection, device grants, dynamic registration and the toolkit's own management pages are left
out, because nothing uses them.
"""

from django.urls import path, re_path
from oauth2_provider import views as toolkit

from usher.application.provider import views

app_name = "oauth2_provider"
urlpatterns = [
    path("authorize/", views.AuthorizationView.as_view(), name="authorize"),
    path("token/", views.TokenView.as_view(), name="token"),
    path("revoke_token/", views.RevokeTokenView.as_view(), name="revoke-token"),
    path("userinfo/", views.userinfo, name="user-info"),
    re_path(
        r"^\.well-known/openid-configuration/?$",
        toolkit.ConnectDiscoveryInfoView.as_view(),
        name="oidc-connect-discovery-info",
    ),
    path(".well-known/jwks.json", toolkit.JwksInfoView.as_view(), name="jwks-info"),
]
