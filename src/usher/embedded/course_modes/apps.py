from django.apps import AppConfig


class CourseModesConfig(AppConfig):
    """The platform's ``course_modes``."""

    name = "usher.embedded.course_modes"
    label = "course_modes"
