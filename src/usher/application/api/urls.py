from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from usher.application.api import views

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="usher-api-schema"),
    path("v1/me/", views.MeView.as_view(), name="usher-api-me"),
    path("v1/course-runs/", views.CourseRunsView.as_view(), name="usher-api-runs"),
    path("v1/course-runs/<path:course_key>/", views.CourseRunView.as_view(), name="usher-api-run"),
    path("v1/enrollments/", views.EnrollmentsView.as_view(), name="usher-api-enrollments"),
    path(
        "v1/enrollments/<path:course_key>/",
        views.EnrollmentView.as_view(),
        name="usher-api-enrollment",
    ),
]
