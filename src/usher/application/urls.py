"""All paths of Usher in the application; mount at the root: the LMS knows them by name."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
