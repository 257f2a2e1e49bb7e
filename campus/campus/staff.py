"""The admin site, in campus's name."""

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig


class CampusAdminSite(AdminSite):
    site_header = "campus staff"
    site_title = "campus staff"
    index_title = "Records"


class CampusAdminConfig(AdminConfig):
    default_site = "campus.staff.CampusAdminSite"
