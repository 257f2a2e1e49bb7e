"""Session cookies of the application and the LMS, which browsers must be able to tell apart."""

from urllib.parse import urlsplit

#: The LMS's session cookie: Django's default, which neither edx-platform nor Tutor changes.
LMS_SESSION_COOKIE = "sessionid"


def session_cookies_collide(application_url: str, application_cookie: str, lms_url: str) -> bool:
    """Whether a browser sends the application's session cookie to the LMS, or the LMS's session
    cookie to the application.

    application_cookie: the application's ``SESSION_COOKIE_NAME``. A cookie is valid for all ports
    of its host; the LMS's cookie is also valid for subdomains of the LMS's host (Tutor's
    ``SESSION_COOKIE_DOMAIN``).
    """
    application_host, lms_host = urlsplit(application_url).hostname, urlsplit(lms_url).hostname
    if not application_host or not lms_host or application_cookie != LMS_SESSION_COOKIE:
        return False
    return application_host == lms_host or application_host.endswith(f".{lms_host}")
