"""The admin site with campus's name."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse


class CampusAdminSite(AdminSite):
    site_header = "campus staff"
    site_title = "campus staff"
    index_title = "Records"

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to campus's sign-in page, which limits wrong passwords. The admin's own sign-in
        page does not."""
        from allauth.account.decorators import secure_admin_login

        response: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return response


class CampusAdminConfig(AdminConfig):
    default_site = "campus.staff.CampusAdminSite"
