"""Proof Key for Code Exchange: RFC 7636, RFC 9700 2.1.1."""

import pytest

from tests.application.provider.conftest import answer_of, pkce_pair
from usher.application.provider.models import ClientPolicy

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def lms_with_pkce(lms):
    """The LMS's client, which must use PKCE."""
    ClientPolicy.objects.filter(application=lms.record).update(pkce_required=True)
    return lms


def test_a_client_without_a_policy_must_send_a_challenge(lms):
    ClientPolicy.objects.all().delete()
    assert answer_of(lms.authorize())["error"] == "invalid_request"


def test_a_challenge_is_required_only_of_a_client_with_pkce_required(
    lms_with_pkce, make_client, learner
):
    client_without_pkce = make_client("lenient")
    client_without_pkce.browser.force_login(learner)
    assert "code" in answer_of(client_without_pkce.authorize())
    assert answer_of(lms_with_pkce.authorize())["error"] == "invalid_request"


def test_the_verifier_of_the_challenge_gives_a_token(lms_with_pkce):
    verifier, challenge = pkce_pair()
    code = lms_with_pkce.code(code_challenge=challenge, code_challenge_method="S256")
    assert lms_with_pkce.token(code=code, code_verifier=verifier).status_code == 200


@pytest.mark.parametrize("method", ["plain", "", "S512"])
def test_challenge_methods_other_than_s256_are_refused(lms_with_pkce, method):
    _, challenge = pkce_pair()
    answer = lms_with_pkce.authorize(code_challenge=challenge, code_challenge_method=method)
    assert answer_of(answer)["error"] == "invalid_request"


@pytest.mark.parametrize("verifier", ["", "wrong-verifier-wrong-verifier-wrong-verifier-wrong"])
def test_a_missing_or_wrong_verifier_is_refused(lms_with_pkce, verifier):
    _, challenge = pkce_pair()
    code = lms_with_pkce.code(code_challenge=challenge, code_challenge_method="S256")
    assert lms_with_pkce.token(code=code, code_verifier=verifier).status_code == 400


def test_a_client_that_sent_an_optional_challenge_must_send_the_verifier(lms):
    _, challenge = pkce_pair()
    code = lms.code(code_challenge=challenge, code_challenge_method="S256")
    assert lms.token(code=code).status_code == 400


def test_a_verifier_without_a_challenge_is_refused(lms):
    """An attacker may have removed the challenge from the authorization request."""
    verifier, _ = pkce_pair()
    assert lms.token(code=lms.code(), code_verifier=verifier).json()["error"] == "invalid_grant"
