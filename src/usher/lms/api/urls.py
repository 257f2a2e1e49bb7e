"""Addresses of the batch API."""

from django.urls import path

from usher.lms.api.views import Accounts, Capabilities, CourseRuns, Enrollments, Links, Report

urlpatterns = [
    path("", Capabilities.as_view(), name="api"),
    path("accounts/", Accounts.as_view(), name="api-accounts"),
    path("enrollments/", Enrollments.as_view(), name="api-enrollments"),
    path("course-runs/", CourseRuns.as_view(), name="api-course-runs"),
    path("links/", Links.as_view(), name="api-links"),
    path("report/", Report.as_view(), name="api-report"),
]
