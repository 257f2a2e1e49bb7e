"""Whether the session cookies of the application and the LMS collide depends on the addresses."""

import pytest

from usher.contract.cookies import session_cookies_collide


@pytest.mark.parametrize(
    ("application", "cookie", "lms", "collide"),
    [
        # One host, or the application on a subdomain of the LMS's host.
        ("http://127.0.0.1:8053", "sessionid", "http://127.0.0.1:8000", True),
        ("http://LOCALHOST:8053", "sessionid", "http://localhost", True),
        ("http://shop.local.openedx.io", "sessionid", "http://local.openedx.io", True),
        # Different hosts; also the LMS on a subdomain of the application's host.
        ("http://localhost:8053", "sessionid", "http://127.0.0.1:8000", False),
        ("http://example.org", "sessionid", "http://courses.example.org", False),
        ("http://notlocal.openedx.io", "sessionid", "http://local.openedx.io", False),
        # Cookies with different names; no addresses.
        ("http://127.0.0.1:8053", "xpro_sessionid", "http://127.0.0.1:8000", False),
        ("", "sessionid", "", False),
    ],
)
def test_session_cookies_collide_on_one_host_and_on_subdomains_of_the_lms(
    application: str, cookie: str, lms: str, collide: bool
) -> None:
    assert session_cookies_collide(application, cookie, lms) is collide
