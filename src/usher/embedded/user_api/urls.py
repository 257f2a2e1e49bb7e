from django.conf import settings
from django.urls import path, re_path

from usher.embedded.user_api.deactivation import DeactivateLogoutView
from usher.embedded.user_api.views import AccountViewSet

urlpatterns = [
    path("v1/me", AccountViewSet.as_view({"get": "get"}), name="own_username_api"),
    path("v1/accounts", AccountViewSet.as_view({"get": "list"}), name="accounts_detail_api"),
    path(
        "v1/accounts/search_emails",
        AccountViewSet.as_view({"post": "search_emails"}),
        name="accounts_search_emails_api",
    ),
    path(
        "v1/accounts/deactivate_logout/",
        DeactivateLogoutView.as_view(),
        name="deactivate_logout",
    ),
    re_path(
        rf"^v1/accounts/{settings.USERNAME_PATTERN}$",
        AccountViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="accounts_api",
    ),
]
