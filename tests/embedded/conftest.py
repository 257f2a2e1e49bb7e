"""LMSs that all tests of a pytest worker share. Each test creates learners of its own."""

from collections.abc import Iterator

import pytest

from tests.support.embedded import EmbeddedLms, embedded_lms


@pytest.fixture(scope="session")
def lms() -> Iterator[EmbeddedLms]:
    """An LMS without rate limits, which the tests may not stop or reconfigure."""
    with embedded_lms(
        features={"ENABLE_BULK_USER_RETIREMENT": True, "ENABLE_LTI_PROVIDER": True},
        IDA_LOGOUT_URI_LIST=["http://app.example:8013/logout/"],
        LOGIN_REDIRECT_WHITELIST=["app.example:8013"],
    ) as running:
        yield running


@pytest.fixture(scope="session")
def strict_lms() -> Iterator[EmbeddedLms]:
    """An LMS with low rate limits."""
    rates = {
        "course_list": {"user": "1/minute", "staff": "2/minute"},
        "enrollment": {"user": None, "staff": None},  # no limits
    }
    with embedded_lms(API_THROTTLE_RATES=rates, REGISTRATION_RATELIMIT="2/7d") as running:
        yield running


@pytest.fixture(scope="session")
def closed_lms() -> Iterator[EmbeddedLms]:
    """An LMS without public registration, retirement and LTI. Its sign-in page is a micro-frontend;
    with the provider hint, sign-in redirects to the provider immediately."""
    features = {
        "ALLOW_PUBLIC_ACCOUNT_CREATION": False,
        "ENABLE_AUTHN_MICROFRONTEND": True,
        "THIRD_PARTY_AUTH_HINT": "oa2-mitxpro-oauth2",
    }
    address = "http://apps.example/authn"
    with embedded_lms(features=features, AUTHN_MICROFRONTEND_URL=address) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A username that no other test has."""
    return f"u{abs(hash(request.node.nodeid)) % 10**12}"
