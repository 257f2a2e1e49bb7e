from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import Client

from usher.console import access

ALL = (
    access.VIEW,
    access.IGNORE,
    access.EXPORT,
    access.COMPARE,
    access.LINK,
    access.DOCTOR,
    access.RETRY,
    access.REPAIR,
)
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def staff_with(db: None) -> Callable[..., Client]:
    """A browser of a staff member with these permissions, ``app.codename`` each."""

    def make(*names: str, username: str = "support", is_staff: bool = True, **more: Any) -> Client:
        model = get_user_model()
        user = model.objects.create_user(
            username, f"{username}@staff.example", is_staff=is_staff, **more
        )
        for name in names:
            app, codename = name.split(".")
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        browser = Client()
        browser.force_login(user)
        return browser

    return make


@pytest.fixture
def staff(staff_with: Callable[..., Client]) -> Client:
    return staff_with(*ALL)
