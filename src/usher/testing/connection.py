"""Connects the project under test and the LMS of a fixture: settings and OAuth2 client."""

from __future__ import annotations

from typing import Any

from usher.contract.environment import Env
from usher.contract.oauth import DEFAULT_BACKEND, social_login_path
from usher.contract.paths import LmsPath

DEMO_RUN = "course-v1:edX+DemoX+Demo_Course"
E2E_RUN = "course-v1:edX+E2E-101+course"
SERVICE_WORKER = "mit_Application_serviceworker"
#: These values need not be secret: the database is emptied after each test, and the LMS ends with
#: pytest.
SERVICE_TOKEN = "service-worker-token-of-tests-0123456789"  # noqa: S105
CLIENT_ID, CLIENT_SECRET = "application-at-the-lms", "secret-of-the-application-0123456789"
LMS_CLIENT_ID, LMS_CLIENT_SECRET = "lms-at-the-application", "secret-of-the-lms-0123456789abcdef"
WEBHOOK_SECRET = "webhook-secret-of-tests-0123456789"  # noqa: S105


def set_up(settings: Any, *, lms_url: str, application_url: str) -> None:
    """Sets the connection's settings and creates the LMS's OAuth2 client in the project's database.

    settings: pytest-django's fixture."""
    values = {
        "SITE_BASE_URL": application_url,
        Env.OPENEDX_API_BASE_URL: lms_url,
        Env.OPENEDX_BASE_REDIRECT_URL: lms_url,
        Env.OPENEDX_COURSE_BASE_URL: "",
        Env.OPENEDX_API_CLIENT_ID: CLIENT_ID,
        Env.OPENEDX_API_CLIENT_SECRET: CLIENT_SECRET,
        Env.OPENEDX_SERVICE_WORKER_USERNAME: SERVICE_WORKER,
        Env.OPENEDX_SERVICE_WORKER_API_TOKEN: SERVICE_TOKEN,
        Env.OPENEDX_OAUTH_PROVIDER: DEFAULT_BACKEND,
        Env.OPENEDX_SOCIAL_LOGIN_PATH: social_login_path(DEFAULT_BACKEND),
        Env.LOGOUT_REDIRECT_URL: lms_url + LmsPath.LOGOUT,
        Env.USHER_WEBHOOK_SECRET: WEBHOOK_SECRET,
        # Not used, because Redis may contain pauses and limits of another LMS.
        "REDIS_URL": "",
    }
    for name, value in values.items():
        setattr(settings, name, value)
    forget_clients()
    from usher.application.management.instance import make_client

    make_client([lms_url], LMS_CLIENT_ID, LMS_CLIENT_SECRET)


def forget_clients() -> None:
    """Drops the LMS clients, so that pauses, limits and outages of the last test are forgotten."""
    from usher.application import lms_client
    from usher.engine.outages import outages

    lms_client._client.cache_clear()
    outages.forget()


def lms_username(user: Any) -> str:
    """The user's LMS username. Reserves one if the user has none."""
    from usher.application.accounts.services import lms_username

    return lms_username(user)
