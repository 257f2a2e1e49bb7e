from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db.models import QuerySet

from accounts.models import User
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import follow_profile, retire, set_active


# The admin's form for a new user. The base class adds the password, twice.
class NewUserForm(BaseUserCreationForm):
    class Meta:
        model = User
        fields = ("username", "email", "name")


@admin.register(User)
class CampusUserAdmin(UserAdmin):
    """The admin of users. The username of an existing user can't be changed: it identifies the user
    in the LMS."""

    list_display = ("username", "email", "name", "is_active", "is_staff", "date_joined")
    search_fields = ("username", "email", "name")
    ordering = ("-id",)
    show_full_result_count = False  # it would count all rows
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

    def save_model(self, request: Any, obj: User, form: Any, change: bool) -> None:
        """Also queue the change for the LMS."""
        super().save_model(request, obj, form, change)
        if "is_active" in form.changed_data and LmsAccount.objects.filter(user=obj).exists():
            set_active(obj, active=obj.is_active)
        if change:
            follow_profile(obj)

    def delete_model(self, request: Any, obj: User) -> None:
        """Also queue the deactivation of the LMS account, whose username is never used again."""
        retire(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: Any, queryset: QuerySet[User]) -> None:
        """Like ``delete_model``, for the action that deletes several users."""
        for user in queryset:
            retire(user)
        super().delete_queryset(request, queryset)

    def get_readonly_fields(self, request: Any, obj: User | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return (*fields, "username") if obj else fields
