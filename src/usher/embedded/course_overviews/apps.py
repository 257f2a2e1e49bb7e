from django.apps import AppConfig


class CourseOverviewsConfig(AppConfig):
    """The platform's ``course_overviews``."""

    name = "usher.embedded.course_overviews"
    label = "course_overviews"
