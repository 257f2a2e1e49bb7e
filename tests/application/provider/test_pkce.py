"""Proof Key for Code Exchange: RFC 7636, RFC 9700 2.1.1."""

import pytest

from tests.application.provider.conftest import answer_of, pkce_pair
from usher.application.provider.models import ClientPolicy

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def strict(lms):
    ClientPolicy.objects.filter(application=lms.record).update(pkce_required=True)
    return lms


def test_a_client_without_a_policy_must_send_a_challenge(lms):
    ClientPolicy.objects.all().delete()
    assert answer_of(lms.authorize())["error"] == "invalid_request"


def test_only_the_client_marked_so_may_leave_it_out(strict, make_client, learner):
    lenient = make_client("lenient")
    lenient.browser.force_login(learner)
    assert "code" in answer_of(lenient.authorize())
    assert answer_of(strict.authorize())["error"] == "invalid_request"


def test_the_right_verifier_gives_a_token(strict):
    verifier, challenge = pkce_pair()
    code = strict.code(code_challenge=challenge, code_challenge_method="S256")
    assert strict.token(code=code, code_verifier=verifier).status_code == 200


@pytest.mark.parametrize("method", ["plain", "", "S512"])
def test_only_s256_is_accepted(strict, method):
    _, challenge = pkce_pair()
    answer = strict.authorize(code_challenge=challenge, code_challenge_method=method)
    assert answer_of(answer)["error"] == "invalid_request"


@pytest.mark.parametrize("verifier", ["", "wrong-verifier-wrong-verifier-wrong-verifier-wrong"])
def test_a_missing_or_wrong_verifier_is_refused(strict, verifier):
    _, challenge = pkce_pair()
    code = strict.code(code_challenge=challenge, code_challenge_method="S256")
    assert strict.token(code=code, code_verifier=verifier).status_code == 400


def test_a_challenge_binds_also_a_client_that_need_not_send_one(lms):
    _, challenge = pkce_pair()
    code = lms.code(code_challenge=challenge, code_challenge_method="S256")
    assert lms.token(code=code).status_code == 400


def test_a_verifier_without_a_challenge_shows_a_downgrade(lms):
    verifier, _ = pkce_pair()
    assert lms.token(code=lms.code(), code_verifier=verifier).json()["error"] == "invalid_grant"
