from django.urls import path

from pages import views

urlpatterns = [
    path("", views.home, name="home"),
    path("dashboard/", views.dashboard, name="dashboard"),
    # Course keys of the old form contain slashes, so the longer patterns are matched first.
    path("courses/<path:course_key>/enroll/", views.enroll_learner, name="enroll"),
    path("courses/<path:course_key>/unenroll/", views.unenroll_learner, name="unenroll"),
    path("courses/<path:course_key>/", views.course_run, name="course-run"),
]
