from django.contrib import admin

from usher.embedded.course_overviews.models import CourseOverview


@admin.register(CourseOverview)
class CourseOverviewAdmin(admin.ModelAdmin):
    list_display = ("id", "display_name", "start", "end", "enrollment_start", "enrollment_end")
    search_fields = ("id", "display_name")
    fields = (
        "id",
        "display_name",
        "start",
        "end",
        "enrollment_start",
        "enrollment_end",
        "self_paced",
        "invitation_only",
        "catalog_visibility",
        "visible_to_staff_only",
        "short_description",
    )
