"""Browsers of staff members with chosen permissions."""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client


def staff_browser(
    *permissions: str, username: str = "support", is_staff: bool = True, **fields: Any
) -> Client:
    """A browser in which a new staff member is signed in.

    permissions: the staff member's permissions, as ``app.codename``. fields: further fields of the
    user.
    """
    user = get_user_model().objects.create_user(
        username, f"{username}@staff.example", is_staff=is_staff, **fields
    )
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    browser = Client()
    browser.force_login(user)
    return browser
