from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import BaseUserCreationForm

from accounts.models import User


class NewUserForm(BaseUserCreationForm):
    class Meta:
        model = User
        fields = ("username", "email", "name")


@admin.register(User)
class CampusUserAdmin(UserAdmin):
    """A person's username is shown, not changed: the LMS knows the person by it."""

    list_display = ("username", "email", "name", "is_active", "is_staff", "date_joined")
    search_fields = ("username", "email", "name")
    ordering = ("-id",)
    show_full_result_count = False
    add_form = NewUserForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("name", "email", "country")}),
        (
            "Rights",
            {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")},
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "name", "password1", "password2")}),)

    def get_readonly_fields(self, request: Any, obj: User | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return (*fields, "username") if obj else fields
