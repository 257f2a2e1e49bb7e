"""Smoke tests of a platform with the plugin: ``tutor local do tests smoke`` (Tutor 21.0.8).

Tutor runs these tests with pytest on the machine where ``tutor`` runs. Tutor passes the LMS's
address in LMS_HOST, ENABLE_HTTPS and, in dev mode, LMS_PORT. The tests change nothing and need no
account.
"""

import os
import unittest
import urllib.error
import urllib.request
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from usher.contract.paths import LmsPath

#: Timeout of one request.
_SECONDS = 30
_MAX_REDIRECTS = 5


def lms_url() -> str:
    """The LMS's URL without a slash at the end."""
    scheme = "https" if os.environ.get("ENABLE_HTTPS") == "true" else "http"
    port = os.environ.get("LMS_PORT", "")
    return f"{scheme}://{os.environ['LMS_HOST']}{':' + port if port else ''}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Returns redirects as answers instead of following them."""

    def redirect_request(self, *_: Any) -> None:
        return None


def get(url: str, cookies: dict[str, str] | None = None) -> tuple[int, HTTPMessage]:
    """Returns status and headers of the answer, which may be a redirect. Adds the cookies of the
    answer to ``cookies``."""
    cookies = {} if cookies is None else cookies
    request = urllib.request.Request(  # noqa: S310 - the LMS's address
        url, headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    )
    try:
        answer = urllib.request.build_opener(_NoRedirects()).open(request, timeout=_SECONDS)
        status, headers = answer.status, answer.headers
    except urllib.error.HTTPError as error:
        status, headers = error.code, error.headers
    for cookie in headers.get_all("Set-Cookie") or ():
        name_and_value, _, _attributes = cookie.partition(";")
        name, _, value = name_and_value.partition("=")
        cookies[name] = value
    return status, headers


def test_the_login_page_of_the_lms_redirects_to_the_application() -> None:
    url, cookies = lms_url() + "/login", dict[str, str]()
    for _ in range(_MAX_REDIRECTS):
        status, headers = get(url, cookies)
        if status == 200 and url == lms_url() + "/login":
            raise unittest.SkipTest(f"{url} is the LMS's own page: it leads to no application")
        assert status in (301, 302, 303), f"{url} answers {status} instead of a redirect"
        url = urljoin(url, headers["Location"])
        query = parse_qs(urlsplit(url).query)
        if "client_id" in query and "redirect_uri" in query:
            break
    else:
        raise AssertionError(f"after {_MAX_REDIRECTS} redirects from /login the address is {url}")
    assert query["redirect_uri"][0].startswith(f"{lms_url()}/auth/complete/"), (
        f"the application would send learners back to {query['redirect_uri'][0]}; run usher doctor"
    )


def test_the_batch_api_refuses_requests_without_a_token() -> None:
    status, _ = get(lms_url() + LmsPath.USHER_API)
    assert status == 401, (
        f"{LmsPath.USHER_API} answers {status} without a token, not 401: usher.lms is not "
        "installed in the LMS's image, or a proxy answers. Run usher doctor."
    )
