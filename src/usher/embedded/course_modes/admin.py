from django.contrib import admin

from usher.embedded.course_modes.models import CourseMode


@admin.register(CourseMode)
class CourseModeAdmin(admin.ModelAdmin):
    list_display = ("course_id", "mode_slug", "min_price", "currency", "_expiration_datetime")
    search_fields = ("course__id",)
    raw_id_fields = ("course",)
