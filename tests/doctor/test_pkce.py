"""APP-2: whether the application requires PKCE of a backend that does not send it."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from usher.contract.oauth import DEFAULT_BACKEND
from usher.doctor.check import Finding, Status, all_checks
from usher.doctor.facts.memo import NotKnownError


def check_pkce(*, required: bool, backend: str, location: str = "") -> Finding:
    """location: where the LMS redirects a learner who signs in; '' for nowhere."""
    answer = httpx.Response(302 if location else 404, headers={"location": location})
    client = {"name": "edx-oauth-app", "pkce_required": required}
    context: Any = SimpleNamespace(
        application=SimpleNamespace(client=lambda client_id: client),
        lms_client_id="the-lms",
        backend=backend,
        sign_in_path="/auth/login/",
        lms=SimpleNamespace(get=lambda path: answer),
    )
    return all_checks()["APP-2"]().probe(context)


@pytest.mark.parametrize(("required", "expected"), [(False, Status.OK), (True, Status.FAILED)])
def test_app_2_fails_if_pkce_is_required_of_a_backend_that_does_not_send_it(
    required: bool, expected: Status
) -> None:
    assert check_pkce(required=required, backend=DEFAULT_BACKEND).status is expected


AUTHORIZE = "http://shop/oauth2/authorize/?client_id=the-lms&redirect_uri=http://lms/auth/complete/"


@pytest.mark.parametrize(
    ("location", "expected"),
    [(AUTHORIZE, Status.FAILED), (AUTHORIZE + "&code_challenge=c", Status.OK)],
    ids=["without code challenge", "with code challenge"],
)
def test_app_2_sees_in_the_redirect_whether_a_backend_of_your_own_sends_pkce(
    location: str, expected: Status
) -> None:
    assert check_pkce(required=True, backend="shop-oauth2", location=location).status is expected


def test_app_2_is_unknown_if_pkce_is_required_and_the_lms_does_not_redirect() -> None:
    assert check_pkce(required=False, backend="shop-oauth2").status is Status.OK
    with pytest.raises(NotKnownError):
        check_pkce(required=True, backend="shop-oauth2")
