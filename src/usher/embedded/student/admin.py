from django.contrib import admin

from usher.embedded.student import models


@admin.register(models.UserProfile)
class UserProfileAdmin(admin.ModelAdmin):
    list_display = ("user", "name", "country")
    search_fields = ("user__username", "name")
    raw_id_fields = ("user",)


@admin.register(models.CourseEnrollment)
class CourseEnrollmentAdmin(admin.ModelAdmin):
    list_display = ("id", "course_id", "mode", "user", "is_active", "created")
    list_filter = ("mode", "is_active")
    search_fields = ("course__id", "user__username", "user__email")
    raw_id_fields = ("user", "course")


@admin.register(models.Registration)
class RegistrationAdmin(admin.ModelAdmin):
    list_display = ("user", "activation_timestamp")
    search_fields = ("user__username",)
    raw_id_fields = ("user",)


@admin.register(models.CourseEnrollmentAllowed)
class CourseEnrollmentAllowedAdmin(admin.ModelAdmin):
    list_display = ("email", "course_id", "auto_enroll", "user")
    search_fields = ("email",)
    raw_id_fields = ("user",)


admin.site.register(models.CourseAccessRole)
