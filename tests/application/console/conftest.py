from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

from tests.support.staff import staff_browser
from usher.console import access

ALL_PERMISSIONS = (
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
def empty_cache() -> None:
    """Empties the cache before each test. The console's pages keep counts in it."""
    cache.clear()


@pytest.fixture
def staff_with(db: None) -> Callable[..., Client]:
    """A function that returns the browser of a new staff member with these permissions."""
    return staff_browser


@pytest.fixture
def staff(staff_with: Callable[..., Client]) -> Client:
    """The browser of a staff member with all permissions of the console."""
    return staff_with(*ALL_PERMISSIONS)


@pytest.fixture
def superuser(transactional_db: None) -> Client:
    """A browser signed in as a superuser. Other staff would need rows of permissions, and tests
    that empty all tables delete those rows."""
    browser = Client()
    model = get_user_model()
    browser.force_login(model.objects.create_superuser("support", "support@staff.example"))
    return browser
